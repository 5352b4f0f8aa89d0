// multiply on the WebGPU backend: element by element, vectors where rows allow it.
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
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { MultiplyInputs, MultiplyOutputs } from "./index.ts";

export function forward(
  { inputs: { a, b }, outputs: { y } }: ForwardCall<MultiplyInputs, MultiplyOutputs, object>,
  backend: WebGpuBackend,
): void {
  dispatchProduct(backend, { a, b, y }, `write ${y.dtype}`);
}

export function backward(
  { inputs: { a, b }, gradOutputs: { y: gradY }, gradInputs }: BackwardCall<MultiplyInputs, MultiplyOutputs, object>,
  backend: WebGpuBackend,
): void {
  const { a: gradA, b: gradB } = gradInputs;
  if (!gradY) return;
  // Halves of one buffer, or one tensor that is both, cannot be written by one kernel.
  if (gradA && gradB && gradA.storage !== gradB.storage) return dispatchBoth(backend, { a, b, gradY, gradA, gradB });
  if (gradA) dispatchProduct(backend, { a: gradY, b, y: gradA }, gradientUse(backend, gradA));
  if (gradB) dispatchProduct(backend, { a: gradY, b: a, y: gradB }, gradientUse(backend, gradB));
}

function dispatchProduct(backend: WebGpuBackend, tensors: { a: Tensor; b: Tensor; y: Tensor }, y: BufferUse): void {
  splitRows(backend, tensors, (parts) => {
    const width = vectorWidthOf(parts.a, parts.b, parts.y);
    const kernel = product({ a: parts.a.dtype, b: parts.b.dtype, y, width });
    dispatchElements(backend, kernel, parts, { like: parts.y, width });
  });
}

function dispatchBoth(
  backend: WebGpuBackend,
  tensors: { a: Tensor; b: Tensor; gradY: Tensor; gradA: Tensor; gradB: Tensor },
): void {
  const uses = { gradA: gradientUse(backend, tensors.gradA), gradB: gradientUse(backend, tensors.gradB) };
  splitRows(backend, tensors, (parts) => {
    const { a, b, gradY, gradA, gradB } = parts;
    const width = vectorWidthOf(a, b, gradY, gradA, gradB);
    const kernel = bothGradients({ a: a.dtype, b: b.dtype, gradY: gradY.dtype, ...uses, width });
    dispatchElements(backend, kernel, parts, { like: gradY, width });
  });
}

type ProductSpec = { a: string; b: string; y: BufferUse; width: VectorWidth };

const product: KernelFamily<ProductSpec> = defineKernel<ProductSpec>(
  "multiply",
  [
    { a: "f32", b: "f32", y: "write f32", width: 4 },
    { a: "f16", b: "f16", y: "add f16", width: 1 },
  ],
  ({ a, b, y, width }) => ({
    buffers: {
      a: `read ${vectorType(a, width)}`,
      b: `read ${vectorType(b, width)}`,
      y: vectorUse(y, width),
    },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  let value = Floats(${vectorAt("a")}) * Floats(${vectorAt("b")});
  ${storeTo("y", y, width, { value: "value" })}`,
    ),
  }),
);

type BothSpec = { a: string; b: string; gradY: string; gradA: BufferUse; gradB: BufferUse; width: VectorWidth };

const bothGradients: KernelFamily<BothSpec> = defineKernel<BothSpec>(
  "multiplyBackward",
  [
    { a: "f32", b: "f32", gradY: "f32", gradA: "add f32", gradB: "write f32", width: 4 },
    { a: "f16", b: "f16", gradY: "f16", gradA: "write f16", gradB: "add f16", width: 1 },
  ],
  ({ a, b, gradY, gradA, gradB, width }) => ({
    buffers: {
      a: `read ${vectorType(a, width)}`,
      b: `read ${vectorType(b, width)}`,
      gradY: `read ${vectorType(gradY, width)}`,
      gradA: vectorUse(gradA, width),
      gradB: vectorUse(gradB, width),
    },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  let grad = Floats(${vectorAt("gradY")});
  ${storeTo("gradA", gradA, width, { value: `grad * Floats(${vectorAt("b")})` })}
  ${storeTo("gradB", gradB, width, { value: `grad * Floats(${vectorAt("a")})` })}`,
    ),
  }),
);
