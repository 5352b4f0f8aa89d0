// When a block's step goes through the fused kernels.
import type { Tensor } from "../../tensor/tensor.ts";

/** Rows of a batch up to which a product is bound by reading the weights, so that matrix-vector kernels suit it. */
export const MOST_ROWS = 8;

/** Elements of a weight in a load of 16 bytes; f32 takes those of f16, so that models do not differ by their weights. */
const LOAD = { rows: 8, panels: 8, int8: 16 } as const;

/**
 * Whether mambaStep has kernels for these: on a GPU, for a few rows, sizes in whole loads of 16 bytes.
 * Elsewhere the ordinary ops do the same.
 */
export function isStepFused(hidden: Tensor, products: readonly Tensor[]): boolean {
  return (
    hidden.backend.name === "webgpu" &&
    hidden.rows <= MOST_ROWS &&
    hidden.shape.at(-2) === 1 &&
    products.every(({ format, columns }) => columns % LOAD[format] === 0)
  );
}
