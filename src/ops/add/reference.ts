// add on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { AddInputs, AddOutputs } from "./index.ts";

export function forward({ inputs: { a, b }, outputs: { y } }: ForwardCall<AddInputs, AddOutputs, object>): void {
  for (let row = 0; row < y.rows; row++)
    for (let column = 0; column < y.columns; column++)
      hostData(y)[y.offset + row * y.rowStride + column] =
        hostData(a)[a.offset + row * a.rowStride + column] + hostData(b)[b.offset + row * b.rowStride + column];
}

/** grad.a += grad.y; grad.b += grad.y. */
export function backward({ gradOutputs: { y }, gradInputs }: BackwardCall<AddInputs, AddOutputs, object>): void {
  for (const grad of [gradInputs.a, gradInputs.b]) {
    if (!grad || !y) continue;
    for (let row = 0; row < y.rows; row++)
      for (let column = 0; column < y.columns; column++)
        hostData(grad)[grad.offset + row * grad.rowStride + column] +=
          hostData(y)[y.offset + row * y.rowStride + column];
  }
}
