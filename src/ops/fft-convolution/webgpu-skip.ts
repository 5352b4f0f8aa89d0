// The gradient of D in y = ... + D x: grad.D += the sum over all steps of x grad.y.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { addSumsOf, COLUMN_SUMS_PARAMS, columnSumsBody } from "../webgpu-column-sums.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { splitRows, vectorAt, vectorType, vectorWidthOf } from "../webgpu-elements.ts";

/** @param x, gradY `[..., channels]`  @param gradD f32 `[channels]` */
export function addSkipGradient(backend: WebGpuBackend, x: Tensor, gradY: Tensor, gradD: Tensor): void {
  splitRows(backend, { x, gradY }, (buffers) => {
    const width = vectorWidthOf(buffers.x, buffers.gradY);
    const kernel = fftSkipSums({ x: x.dtype, gradY: gradY.dtype, width });
    addSumsOf(backend, { kernel, buffers, like: buffers.x, width, sum: gradD });
  });
}

const fftSkipSums: KernelFamily<{ x: string; gradY: string; width: VectorWidth }> = defineKernel(
  "fftSkipSums",
  [
    { x: "f32", gradY: "f32", width: 1 },
    { x: "f16", gradY: "f16", width: 4 },
  ],
  ({ x, gradY, width }) => ({
    buffers: {
      x: `read ${vectorType(x, width)}` as BufferUse,
      gradY: `read ${vectorType(gradY, width)}` as BufferUse,
      partials: `write ${vectorType("f32", width)}` as BufferUse,
    },
    params: COLUMN_SUMS_PARAMS,
    body: columnSumsBody(
      { width, sums: true },
      /* wgsl */ `
fn value(row: u32, column: u32) -> Floats { return Floats(${vectorAt("x")}) * Floats(${vectorAt("gradY")}); }`,
    ),
  }),
);
