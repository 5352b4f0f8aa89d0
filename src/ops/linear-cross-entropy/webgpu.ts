// What linearCrossEntropy needs on the WebGPU backend beside the kernels of linear and crossEntropy.
import type { BufferUse, KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
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

/** to += a b source, a and b scalars. */
export function addScaled(to: Tensor, source: Tensor, a: Tensor, b: Tensor, backend: WebGpuBackend): void {
  const use = gradientUse(backend, to);
  splitRows(backend, { source, to }, (parts) => {
    const width = vectorWidthOf(parts.source, parts.to);
    const kernel = addScaledKernel({ source: source.dtype, to: use, width });
    dispatchElements(backend, kernel, { ...parts, a, b }, { like: parts.to, width });
  });
}

type ScaledSpec = { readonly source: string; readonly to: BufferUse; readonly width: VectorWidth };

const addScaledKernel: KernelFamily<ScaledSpec> = defineKernel<ScaledSpec>(
  "addScaled",
  [
    { source: "f32", to: "add f32", width: 4 },
    { source: "f16", to: "write f16", width: 1 },
  ],
  ({ source, to, width }) => ({
    buffers: {
      source: `read ${vectorType(source, width)}`,
      to: vectorUse(to, width),
      a: "read f32",
      b: "read f32",
    },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  let factor = a[params.a_at] * b[params.b_at];
  ${storeTo("to", to, width, { value: `factor * Floats(${vectorAt("source")})` })}`,
    ),
  }),
);
