// What a product on the WebGPU backend is: two matrices as they lie in memory, and where the result goes.
import type { WebGpuStorage, Place } from "../../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { int8Place, int8Scales } from "./webgpu-pack.ts";

/** Element types that an operand may have in memory. */
export type OperandType = "f32" | "f16" | "int8";

/** Which axis of an operand is contiguous: that over which the product sums, or the other. */
export type Along = "steps" | "outer";

/** A matrix in memory: `rows` of `columns`, `rowStride` apart. */
export interface Operand extends Place {
  readonly type: OperandType;
  readonly along: Along;
  /** One float32 a row, for int8. */
  readonly scales?: Place | undefined;
}

/** to[m, n] (+)= sum over k of a(m, k) b(k, n), + bias[n] + residual[m, n]. */
export interface Product {
  readonly a: Operand;
  readonly b: Operand;
  readonly to: Operand;
  /** Add to what is there. Else all of it is overwritten. */
  readonly adds: boolean;
  /** One row. */
  readonly bias?: Operand | undefined;
  /** Float32 of the size of the result, which is added to it. */
  readonly residual?: Operand | undefined;
}

/** Sizes of a product: rows and columns of the result, and terms of each sum. */
export interface Sizes {
  readonly rows: number;
  readonly columns: number;
  readonly steps: number;
}

export function sizesOf({ a, to }: Product): Sizes {
  return { rows: to.rows, columns: to.columns, steps: a.along === "steps" ? a.columns : a.rows };
}

/** A tensor as an operand. A tensor of rank 1 or with leading axes counts as `[rows, columns]`. */
export function operandOf(tensor: Tensor, along: Along): Operand {
  if (tensor.format === "int8") return { ...int8Place(tensor), type: "int8", along, scales: int8Scales(tensor) };
  const { storage, offset, rowStride, rows, columns, dtype } = tensor;
  return { storage, offset, rowStride, rows, columns, type: dtype === "f16" ? "f16" : "f32", along };
}

/** The same elements in another storage, such as a copy of another type. */
export function operandIn(storage: WebGpuStorage, operand: Operand): Operand {
  return { ...operand, storage, type: storage.dtype === "f16" ? "f16" : "f32" };
}

/** Rows [start, start + count) of a matrix. */
export function rowsOf(operand: Operand, start: number, count: number): Operand {
  const { scales } = operand;
  return {
    ...operand,
    offset: operand.offset + start * operand.rowStride,
    rows: count,
    scales: scales && { ...scales, offset: scales.offset + start * 4, columns: count * 4 },
  };
}

/** Columns [start, start + count) of a matrix. */
export function columnsOf(operand: Operand, start: number, count: number): Operand {
  return { ...operand, offset: operand.offset + start, columns: count };
}

/** Entries [start, start + count) of the axis that is not summed over. */
export function outerOf(operand: Operand, start: number, count: number): Operand {
  return operand.along === "steps" ? rowsOf(operand, start, count) : columnsOf(operand, start, count);
}

/** Entries [start, start + count) of the axis that is summed over. */
export function stepsOf(operand: Operand, start: number, count: number): Operand {
  return operand.along === "steps" ? columnsOf(operand, start, count) : rowsOf(operand, start, count);
}

/** Bytes that a kernel must see of a matrix, with room for the alignment of bindings. */
export function boundBytes({ storage, rows, rowStride, columns }: Place): number {
  return ((rows - 1) * rowStride + columns) * BYTES_PER_ELEMENT[storage.dtype] + 512;
}

/** Whether a matrix can be read and written in vectors of `width` elements, none of which crosses the end of a row. */
export function isWide({ offset, rowStride, columns, rows }: Place, width: number): boolean {
  return offset % width === 0 && columns % width === 0 && (rowStride % width === 0 || rows === 1);
}
