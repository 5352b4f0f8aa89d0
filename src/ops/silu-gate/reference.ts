// siluGate on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { SiluGateInputs, SiluGateOutputs } from "./index.ts";

export function forward({
  inputs: { x, z },
  outputs: { y },
}: ForwardCall<SiluGateInputs, SiluGateOutputs, object>): void {
  for (let row = 0; row < y.rows; row++)
    for (let column = 0; column < y.columns; column++) {
      const gate = at(z, row, column);
      hostData(y)[y.offset + row * y.rowStride + column] = at(x, row, column) * gate * sigmoid(gate);
    }
}

/** With s = sigmoid(z): grad.x += grad.y z s; grad.z += grad.y x s (1 + z (1 - s)). */
export function backward(call: BackwardCall<SiluGateInputs, SiluGateOutputs, object>): void {
  const { x, z } = call.inputs;
  const { x: gradX, z: gradZ } = call.gradInputs;
  const { y: gradY } = call.gradOutputs;
  if (!gradY) return;
  for (let row = 0; row < x.rows; row++)
    for (let column = 0; column < x.columns; column++) {
      const g = at(gradY, row, column);
      const gate = at(z, row, column);
      const s = sigmoid(gate);
      if (gradX) hostData(gradX)[gradX.offset + row * gradX.rowStride + column] += g * gate * s;
      if (gradZ)
        hostData(gradZ)[gradZ.offset + row * gradZ.rowStride + column] +=
          g * at(x, row, column) * s * (1 + gate * (1 - s));
    }
}

function at(tensor: Tensor, row: number, column: number): number {
  return hostData(tensor)[tensor.offset + row * tensor.rowStride + column];
}

function sigmoid(v: number): number {
  return 1 / (1 + Math.exp(-v));
}
