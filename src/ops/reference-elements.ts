// Elements of tensors of the reference backend, by row and column.
import { hostData } from "../tensor/define-op.ts";
import type { Tensor } from "../tensor/tensor.ts";

export function elementOf(tensor: Tensor, row: number, column: number): number {
  return hostData(tensor)[tensor.offset + row * tensor.rowStride + column];
}

export function setTo(tensor: Tensor, row: number, column: number, value: number): void {
  hostData(tensor)[tensor.offset + row * tensor.rowStride + column] = value;
}

/** Adds to an element; nothing where there is no tensor (a gradient that nobody wants). */
export function addTo(tensor: Tensor | undefined, row: number, column: number, value: number): void {
  if (tensor) hostData(tensor)[tensor.offset + row * tensor.rowStride + column] += value;
}
