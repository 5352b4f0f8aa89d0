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
  SIGMOID,
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
    // ln(1 + e) is 2 artanh(e / (2 + e)), by its series: ln itself would lose the digits of a small e.
    body: elementsHeader(
      width,
      /* wgsl */ `
  let v = ${shifted(bias)};
  let e = exp(-abs(v));
  let s = e / (2 + e);
  let q = s * s;
  let series = 1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13))))));
  let value = max(v, Floats(0)) + 2 * s * series;
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
    body:
      SIGMOID +
      columnSumsBody(
        { width, sums },
        /* wgsl */ `
fn value(row: u32, column: u32) -> Floats {
  let v = ${shifted(bias)};
  let grad = Floats(${vectorAt("gradY")}) * sigmoid(v);
  ${gradX ? storeTo("gradX", gradX, width, { value: "grad" }) : ""}
  return grad;
}`,
      ),
  }),
);
