// sumSquares on the reference backend.
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";

export function sumSquares(tensors: readonly Tensor[]): number {
  let sum = 0;
  for (const x of tensors)
    for (let row = 0; row < x.rows; row++)
      for (let column = 0; column < x.columns; column++) sum += hostData(x)[x.offset + row * x.rowStride + column] ** 2;
  return sum;
}
