// softplus on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { SoftplusInputs, SoftplusOutputs } from "./index.ts";

export function forward({ inputs, outputs: { y } }: ForwardCall<SoftplusInputs, SoftplusOutputs, object>): void {
  for (let row = 0; row < y.rows; row++)
    for (let column = 0; column < y.columns; column++) {
      const v = shifted(inputs, row, column);
      hostData(y)[y.offset + row * y.rowStride + column] = Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
    }
}

/** grad.x += grad.y sigmoid(x + bias); grad.bias += the sum of that over rows. */
export function backward(call: BackwardCall<SoftplusInputs, SoftplusOutputs, object>): void {
  const { x, bias } = call.gradInputs;
  const { y } = call.gradOutputs;
  if (!y) return;
  for (let row = 0; row < y.rows; row++)
    for (let column = 0; column < y.columns; column++) {
      const slope = 1 / (1 + Math.exp(-shifted(call.inputs, row, column)));
      const grad = hostData(y)[y.offset + row * y.rowStride + column] * slope;
      if (x) hostData(x)[x.offset + row * x.rowStride + column] += grad;
      if (bias) hostData(bias)[bias.offset + column] += grad;
    }
}

function shifted({ x, bias }: SoftplusInputs, row: number, column: number): number {
  return hostData(x)[x.offset + row * x.rowStride + column] + (bias ? hostData(bias)[bias.offset + column] : 0);
}
