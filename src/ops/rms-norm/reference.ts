// rmsNorm on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { RmsNormInputs, RmsNormOptions, RmsNormOutputs } from "./index.ts";

export function forward(call: ForwardCall<RmsNormInputs, RmsNormOutputs, RmsNormOptions>): void {
  const { x, weight } = call.inputs;
  const { y } = call.outputs;
  const { eps = 1e-5 } = call.options;
  for (let row = 0; row < x.rows; row++) {
    const xRow = hostData(x).subarray(x.offset + row * x.rowStride);
    const yRow = hostData(y).subarray(y.offset + row * y.rowStride);
    let squares = 0;
    for (let column = 0; column < x.columns; column++) squares += xRow[column] ** 2;
    const inverse = 1 / Math.sqrt(squares / x.columns + eps);
    if (call.saved) hostData(call.saved.inverse)[row] = inverse;
    for (let column = 0; column < x.columns; column++)
      yRow[column] = xRow[column] * inverse * hostData(weight)[weight.offset + column];
  }
}

/** With r = inverse and m = mean(weight grad.y x): grad.x += r weight grad.y - r³ m x; grad.weight += sum over rows of grad.y x r. */
export function backward(call: BackwardCall<RmsNormInputs, RmsNormOutputs, RmsNormOptions>): void {
  const { x, weight } = call.inputs;
  const { y: gradY } = call.gradOutputs;
  const { x: gradX, weight: gradWeight } = call.gradInputs;
  if (!gradY) return;
  const w = hostData(weight).subarray(weight.offset);
  for (let row = 0; row < x.rows; row++) {
    const xRow = hostData(x).subarray(x.offset + row * x.rowStride);
    const g = hostData(gradY).subarray(gradY.offset + row * gradY.rowStride);
    const inverse = hostData(call.saved.inverse)[row];
    let mean = 0;
    for (let column = 0; column < x.columns; column++) mean += (w[column] * g[column] * xRow[column]) / x.columns;
    for (let column = 0; column < x.columns; column++) {
      if (gradX)
        hostData(gradX)[gradX.offset + row * gradX.rowStride + column] +=
          inverse * w[column] * g[column] - inverse ** 3 * mean * xRow[column];
      if (gradWeight) hostData(gradWeight)[gradWeight.offset + column] += g[column] * xRow[column] * inverse;
    }
  }
}
