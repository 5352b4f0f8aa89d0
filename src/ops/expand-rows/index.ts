// expandRows: one row, a parameter, as every row of an activation (B, C or dt of a scan that does not select).
import type { DType } from "../../core/dtype.ts";
import { ShapeError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import { formatShape, sizeOf } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type ExpandRowsInputs = { readonly row: Tensor };
export type ExpandRowsOutputs = { readonly y: Tensor };

export interface ExpandRowsOptions {
  /** The axes before the last one of y, `[batch, length]`. */
  readonly shape: Shape;
  /** Element type of y; default: that of row. */
  readonly dtype?: DType;
}

/**
 * y[..., j] = row[j]: every row of y is a copy of `row`. Its gradient is the sum over the rows of y's.
 * @param row `[columns]`
 * @returns y `[...shape, columns]`
 * @throws ShapeError when `row` is no vector, or an axis of `shape` is not a whole number of at least 1
 */
export const expandRows: Op<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions> = defineOp<
  ExpandRowsInputs,
  ExpandRowsOutputs,
  ExpandRowsOptions
>({
  name: "expandRows",
  shape({ row }, { shape, dtype = row.dtype }) {
    if (row.shape.length !== 1 || row.columns === 0)
      throw new ShapeError(`expandRows: row must be a vector [columns], got ${formatShape(row.shape)}.`);
    if (!shape.every((axis) => Number.isInteger(axis)) || sizeOf(shape) < 1)
      throw new ShapeError(`expandRows: shape must hold whole numbers of at least 1, got ${formatShape(shape)}.`);
    return { y: { shape: [...shape, row.columns], dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["row"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
