// siluGate on the WebGPU backend: element by element, vectors where rows allow it.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
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
import type { SiluGateInputs, SiluGateOutputs } from "./index.ts";

export function forward(
  { inputs: { x, z }, outputs: { y } }: ForwardCall<SiluGateInputs, SiluGateOutputs, object>,
  backend: WebGpuBackend,
): void {
  splitRows(backend, { x, z, y }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.z, parts.y);
    const kernel = gateForward({ x: x.dtype, z: z.dtype, y: y.dtype, width });
    dispatchElements(backend, kernel, parts, { like: parts.y, width });
  });
}

export function backward(
  { inputs: { x, z }, gradOutputs, gradInputs }: BackwardCall<SiluGateInputs, SiluGateOutputs, object>,
  backend: WebGpuBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX, z: gradZ } = gradInputs;
  if (!gradY) return;
  const dispatch = (grads: { gradX?: Tensor | undefined; gradZ?: Tensor | undefined }): void =>
    splitRows(backend, { x, z, gradY, ...grads }, (parts) => dispatchBackward(backend, parts));
  // Halves of one buffer cannot be written by one kernel.
  if (gradX && gradZ && gradX.storage === gradZ.storage) {
    dispatch({ gradX });
    dispatch({ gradZ });
  } else if (gradX || gradZ) dispatch({ gradX, gradZ });
}

function dispatchBackward(
  backend: WebGpuBackend,
  parts: { x: Tensor; z: Tensor; gradY: Tensor; gradX?: Tensor | undefined; gradZ?: Tensor | undefined },
): void {
  const { x, z, gradY, gradX, gradZ } = parts;
  const width = vectorWidthOf(x, z, gradY, gradX, gradZ);
  const kernel = gateBackward({
    x: x.dtype,
    z: z.dtype,
    gradY: gradY.dtype,
    gradX: gradientUse(backend, gradX),
    gradZ: gradientUse(backend, gradZ),
    width,
  });
  const buffers = { z, gradY, ...(gradX && { gradX }), ...(gradZ && { x, gradZ }) };
  dispatchElements(backend, kernel, buffers, { like: gradY, width });
}

const gateForward: KernelFamily<{ x: string; z: string; y: string; width: VectorWidth }> = defineKernel<{
  x: string;
  z: string;
  y: string;
  width: VectorWidth;
}>(
  "siluGate",
  [
    { x: "f32", z: "f32", y: "f32", width: 4 },
    { x: "f16", z: "f16", y: "f16", width: 1 },
  ],
  ({ x, z, y, width }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}`,
      z: `read ${vectorType(z, width)}`,
      y: `write ${vectorType(y, width)}`,
    },
    params: ["rows", "columns"],
    body:
      SIGMOID +
      elementsHeader(
        width,
        /* wgsl */ `
  let gate = Floats(${vectorAt("z")});
  let value = Floats(${vectorAt("x")}) * gate * sigmoid(gate);
  ${storeTo("y", `write ${y}`, width, { value: "value" })}`,
      ),
  }),
);

type BackwardSpec = {
  x: string;
  z: string;
  gradY: string;
  gradX: BufferUse | undefined;
  gradZ: BufferUse | undefined;
  width: VectorWidth;
};

const gateBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "siluGateBackward",
  [
    { x: "f32", z: "f32", gradY: "f32", gradX: "add f32", gradZ: "write f32", width: 4 },
    { x: "f16", z: "f16", gradY: "f16", gradX: undefined, gradZ: "add f16", width: 1 },
    { x: "f32", z: "f32", gradY: "f32", gradX: "write f32", gradZ: undefined, width: 1 },
  ],
  ({ x, z, gradY, gradX, gradZ, width }) => ({
    buffers: {
      z: `read ${vectorType(z, width)}`,
      gradY: `read ${vectorType(gradY, width)}`,
      ...(gradX && { gradX: vectorUse(gradX, width) }),
      ...(gradZ && { x: `read ${vectorType(x, width)}` as BufferUse, gradZ: vectorUse(gradZ, width) }),
    },
    params: ["rows", "columns"],
    body:
      SIGMOID +
      elementsHeader(
        width,
        /* wgsl */ `
  let gate = Floats(${vectorAt("z")});
  let grad = Floats(${vectorAt("gradY")});
  let s = sigmoid(gate);
  ${gradX ? storeTo("gradX", gradX, width, { value: "grad * gate * s" }) : ""}
  ${gradZ ? storeTo("gradZ", gradZ, width, { value: `grad * Floats(${vectorAt("x")}) * s * (1 + gate * (1 - s))` }) : ""}`,
      ),
  }),
);
