// When a block's step goes through the fused kernels.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** Rows of a batch up to which a product is bound by reading the weights, so that matrix-vector kernels suit it. */
export const MOST_ROWS = 8;

/** Elements of a weight in a load of 16 bytes; f32 takes those of f16, so that models do not differ by their weights. */
const LOAD = { rows: 8, panels: 8, int8: 16 } as const;

/**
 * Whether mambaStep has kernels for these: on a GPU, for a few rows, sizes in whole loads of 16 bytes, weights that a binding holds.
 * Elsewhere the ordinary ops do the same.
 */
export function isStepFused(hidden: Tensor, products: readonly Tensor[]): boolean {
  return (
    hidden.backend.name === "webgpu" &&
    hidden.rows <= MOST_ROWS &&
    hidden.shape.at(-2) === 1 &&
    products.every((weight) => weight.columns % LOAD[weight.format] === 0 && isBound(weight))
  );
}

function isBound({ backend, storage }: Tensor): boolean {
  return storage.count * BYTES_PER_ELEMENT[storage.dtype] <= (backend as WebGpuBackend).maxBindingBytes;
}

/** Buffers of the step of the scan when its x and z lie apart. */
const MOST_BUFFERS = 9;

/** Whether mambaStep has kernels for more rows than {@link isStepFused} takes: products by tiles, the rest fused. */
export function isStepTiled({ backend, rows, shape }: Tensor): boolean {
  return (
    backend.name === "webgpu" &&
    rows > MOST_ROWS &&
    rows < 65536 &&
    shape.at(-2) === 1 &&
    (backend as WebGpuBackend).device.limits.maxStorageBuffersPerShaderStage >= MOST_BUFFERS
  );
}
