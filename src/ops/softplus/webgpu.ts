// softplus on the WebGPU backend: element by element; the bias' gradient by the sums of ../webgpu-column-sums.ts.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { addSumsOf, COLUMN_SUMS_PARAMS, columnSumsBody } from "../webgpu-column-sums.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  dispatchElements,
  elementsHeader,
  gradientUse,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { SoftplusInputs, SoftplusOutputs } from "./index.ts";

export function forward(
  { inputs: { x, bias }, outputs: { y } }: ForwardCall<SoftplusInputs, SoftplusOutputs, object>,
  backend: WebGpuBackend,
): void {
  splitRows(backend, { x, y }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.y, bias);
    const kernel = softplusForward({ x: x.dtype, y: y.dtype, bias: bias !== undefined, width });
    dispatchElements(backend, kernel, { ...parts, ...(bias && { bias }) }, { like: parts.y, width });
  });
}

export function backward(
  { inputs: { x, bias }, gradOutputs, gradInputs }: BackwardCall<SoftplusInputs, SoftplusOutputs, object>,
  backend: WebGpuBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX, bias: sum } = gradInputs;
  if (!gradY) return;
  splitRows(backend, { x, gradY, gradX }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.gradY, parts.gradX, bias);
    const kernel = softplusBackward({
      x: x.dtype,
      gradY: gradY.dtype,
      gradX: gradientUse(backend, parts.gradX),
      bias: bias !== undefined,
      sums: sum !== undefined,
      width,
    });
    const buffers = { x: parts.x, gradY: parts.gradY, ...(parts.gradX && { gradX: parts.gradX }) };
    addSumsOf(backend, { kernel, buffers: { ...buffers, ...(bias && { bias }) }, like: parts.x, width, sum });
  });
}

/** WGSL: v = x + bias. */
function shifted(bias: boolean): string {
  return `Floats(${vectorAt("x")})${bias ? ` + ${vectorAt("bias", "0u")}` : ""}`;
}

type ForwardSpec = { x: string; y: string; bias: boolean; width: VectorWidth };

const softplusForward: KernelFamily<ForwardSpec> = defineKernel<ForwardSpec>(
  "softplus",
  [
    { x: "f32", y: "f32", bias: true, width: 4 },
    { x: "f16", y: "f16", bias: false, width: 1 },
  ],
  ({ x, y, bias, width }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      ...(bias && { bias: `read ${vectorType("f32", width)}` as BufferUse }),
      y: `write ${vectorType(y, width)}`,
    },
    params: ["rows", "columns"],
    // Below 1e-4, ln(1 + e) is e - e²/2 to the last digit, and ln would lose them.
    body: elementsHeader(
      width,
      /* wgsl */ `
  let v = ${shifted(bias)};
  let e = exp(-abs(v));
  let value = max(v, Floats(0)) + select(log(1 + e), e - 0.5 * e * e, e < Floats(1e-4));
  ${storeTo("y", `write ${y}`, width, { value: "value" })}`,
    ),
  }),
);

type BackwardSpec = {
  x: string;
  gradY: string;
  gradX: BufferUse | undefined;
  bias: boolean;
  sums: boolean;
  width: VectorWidth;
};

const softplusBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "softplusBackward",
  [
    { x: "f32", gradY: "f32", gradX: "add f32", bias: true, sums: true, width: 4 },
    { x: "f16", gradY: "f16", gradX: "write f16", bias: false, sums: false, width: 1 },
    { x: "f32", gradY: "f32", gradX: undefined, bias: true, sums: true, width: 1 },
  ],
  ({ x, gradY, gradX, bias, sums, width }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      ...(bias && { bias: `read ${vectorType("f32", width)}` as BufferUse }),
      gradY: `read ${vectorType(gradY, width)}`,
      ...(gradX && { gradX: vectorUse(gradX, width) }),
      ...(sums && { partials: `write ${vectorType("f32", width)}` as BufferUse }),
    },
    params: COLUMN_SUMS_PARAMS,
    body: columnSumsBody(
      { width, sums },
      /* wgsl */ `
fn value(row: u32, column: u32) -> Floats {
  let v = ${shifted(bias)};
  let grad = Floats(${vectorAt("gradY")}) / (1 + exp(-v));
  ${gradX ? storeTo("gradX", gradX, width, { value: "grad" }) : ""}
  return grad;
}`,
    ),
  }),
);
