// rotary on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { RotaryInputs, RotaryOptions, RotaryOutputs } from "./index.ts";

export function forward(call: ForwardCall<RotaryInputs, RotaryOutputs, RotaryOptions>): void {
  const { y } = call.outputs;
  turn(call.inputs, call.options, 1, call.inputs.x, (row, column, value) => {
    hostData(y)[y.offset + row * y.rowStride + column] = value;
  });
}

/** The transpose of a rotation turns back: grad.x += grad.y turned by -angle. */
export function backward(call: BackwardCall<RotaryInputs, RotaryOutputs, RotaryOptions>): void {
  const { y: gradY } = call.gradOutputs;
  const { x: gradX } = call.gradInputs;
  if (!gradX || !gradY) return;
  turn(call.inputs, call.options, -1, gradY, (row, column, value) => {
    hostData(gradX)[gradX.offset + row * gradX.rowStride + column] += value;
  });
}

function turn(
  { positions }: RotaryInputs,
  { headDim, rotaryDim = headDim, base = 10000 }: RotaryOptions,
  direction: 1 | -1,
  from: Tensor,
  put: (row: number, column: number, value: number) => void,
): void {
  const length = from.shape[1];
  const half = rotaryDim / 2;
  const at = (row: number, column: number): number => hostData(from)[from.offset + row * from.rowStride + column];
  for (let row = 0; row < from.rows; row++) {
    const first = positions ? hostData(positions)[positions.offset + Math.floor(row / length)] : 0;
    for (let column = 0; column < from.columns; column++) {
      const channel = column % headDim;
      if (channel >= rotaryDim) {
        put(row, column, at(row, column));
        continue;
      }
      const angle = direction * (first + (row % length)) * base ** ((-2 * (channel % half)) / rotaryDim);
      const other = channel < half ? -at(row, column + half) : at(row, column - half);
      put(row, column, at(row, column) * Math.cos(angle) + other * Math.sin(angle));
    }
  }
}
