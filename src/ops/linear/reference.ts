// linear on the reference backend: the loops of the formula in float64, or with an int8 weight its exact arithmetic.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LinearInputs, LinearOptions, LinearOutputs } from "./index.ts";
import { checkHasGradient, readInt8Row } from "./pack.ts";
import { dotQuantized, quantizeInputs } from "./quantize.ts";

export function forward(call: ForwardCall<LinearInputs, LinearOutputs, LinearOptions>): void {
  const { x, weight, bias } = call.inputs;
  const { y } = call.outputs;
  if (weight.format === "int8") return forwardInt8(x, weight, bias, y);
  const [from, w, to] = [hostData(x), hostData(weight), hostData(y)];
  for (let row = 0; row < y.rows; row++)
    for (let output = 0; output < y.columns; output++) {
      let sum = bias ? hostData(bias)[bias.offset + output] : 0;
      const xAt = x.offset + row * x.rowStride;
      const wAt = weight.offset + output * weight.rowStride;
      for (let input = 0; input < x.columns; input++) sum += from[xAt + input] * w[wAt + input];
      to[y.offset + row * y.rowStride + output] = sum;
    }
}

function forwardInt8(x: Tensor, weight: Tensor, bias: Tensor | undefined, y: Tensor): void {
  const weightRows = Array.from({ length: weight.rows }, (_, output) => readInt8Row(weight, output));
  for (let row = 0; row < y.rows; row++) {
    const start = x.offset + row * x.rowStride;
    const inputs = quantizeInputs(Float32Array.from(hostData(x).subarray(start, start + x.columns)));
    for (const [output, weightRow] of weightRows.entries())
      hostData(y)[y.offset + row * y.rowStride + output] = dotQuantized(
        inputs,
        weightRow,
        bias && hostData(bias)[bias.offset + output],
      );
  }
}

/** grad.x += grad.y W; grad.weight += grad.yᵀ x; grad.bias += sum of grad.y over rows. */
export function backward(call: BackwardCall<LinearInputs, LinearOutputs, LinearOptions>): void {
  const { x, weight } = call.inputs;
  const gradY = call.gradOutputs.y;
  const { x: gradX, weight: gradWeight, bias: gradBias } = call.gradInputs;
  if (!gradY) return;
  checkHasGradient(weight);
  for (let row = 0; row < gradY.rows; row++)
    for (let output = 0; output < gradY.columns; output++) {
      const g = hostData(gradY)[gradY.offset + row * gradY.rowStride + output];
      if (gradBias) hostData(gradBias)[gradBias.offset + output] += g;
      if (gradX) addScaled(gradX, row, weight, output, g);
      if (gradWeight) addScaled(gradWeight, output, x, row, g);
    }
}

/** target[row] += factor * source[sourceRow]. */
function addScaled(target: Tensor, row: number, source: Tensor, sourceRow: number, factor: number): void {
  const [to, from] = [hostData(target), hostData(source)];
  const toAt = target.offset + row * target.rowStride;
  const fromAt = source.offset + sourceRow * source.rowStride;
  for (let i = 0; i < target.columns; i++) to[toAt + i] += factor * from[fromAt + i];
}
