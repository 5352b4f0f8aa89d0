// causalConv1d in float64, one sum at a time: the specification.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ConvInputs, ConvOptions, ConvOutputs } from "./index.ts";

/** Where an input of time `s` lies: in x, in the state before it (s < 0), or nowhere (zero). */
interface Place {
  tensor: Tensor;
  index: number;
}

export function forward(call: ForwardCall<ConvInputs, ConvOutputs, ConvOptions>): void {
  const { inputs, outputs, options } = call;
  const { y, finalState } = outputs;
  const [batch, length, channels] = inputs.x.shape;
  const width = inputs.weight.columns;
  for (let b = 0; b < batch; b++)
    for (let channel = 0; channel < channels; channel++) {
      for (let t = 0; t < length; t++) {
        const pre = preActivation(inputs, b, t, channel);
        hostData(y)[y.offset + (b * length + t) * y.rowStride + channel] = options.silu ? pre * sigmoid(pre) : pre;
      }
      const last = Array.from({ length: width - 1 }, (_, i) =>
        valueAt(inputs, b, length - width + 1 + i, length - 1, channel),
      );
      last.forEach(
        (value, i) =>
          (hostData(finalState)[finalState.offset + (b * (width - 1) + i) * finalState.rowStride + channel] = value),
      );
    }
}

/** grad.x[s] += w[k] gradPre[s + width - 1 - k]; grad.w[k] += gradPre[t] x[t - width + 1 + k]; grad.bias += gradPre. */
export function backward(call: BackwardCall<ConvInputs, ConvOutputs, ConvOptions>): void {
  const { inputs, options, gradOutputs, gradInputs } = call;
  const { weight } = inputs;
  const [batch, length, channels] = inputs.x.shape;
  const width = weight.columns;
  const grads: ConvInputs = { ...inputs, x: gradInputs.x!, initialState: gradInputs.initialState };
  const addTo = (b: number, s: number, t: number, channel: number, value: number): void => {
    const place = placeOf(grads, inputs.documentStarts, b, s, t, channel);
    if (place?.tensor) hostData(place.tensor)[place.index] += value;
  };
  for (let b = 0; b < batch; b++)
    for (let channel = 0; channel < channels; channel++) {
      for (let t = 0; t < length; t++) {
        if (!gradOutputs.y) break;
        const pre = preActivation(inputs, b, t, channel);
        const s = sigmoid(pre);
        const gradY = hostData(gradOutputs.y)[
          gradOutputs.y.offset + (b * length + t) * gradOutputs.y.rowStride + channel
        ];
        const gradPre = gradY * (options.silu ? s * (1 + pre * (1 - s)) : 1);
        for (let k = 0; k < width; k++) {
          const at = t - width + 1 + k;
          addTo(b, at, t, channel, hostData(weight)[weight.offset + channel * weight.rowStride + k] * gradPre);
          const { weight: gradWeight } = gradInputs;
          if (gradWeight)
            hostData(gradWeight)[gradWeight.offset + channel * gradWeight.rowStride + k] +=
              gradPre * valueAt(inputs, b, at, t, channel);
        }
        if (gradInputs.bias) hostData(gradInputs.bias)[gradInputs.bias.offset + channel] += gradPre;
      }
      const { finalState: gradFinal } = gradOutputs;
      if (!gradFinal) continue;
      for (let i = 0; i < width - 1; i++) {
        const value = hostData(gradFinal)[gradFinal.offset + (b * (width - 1) + i) * gradFinal.rowStride + channel];
        addTo(b, length - width + 1 + i, length - 1, channel, value);
      }
    }
}

function preActivation(inputs: ConvInputs, b: number, t: number, channel: number): number {
  const { weight, bias } = inputs;
  const width = weight.columns;
  let sum = bias ? hostData(bias)[bias.offset + channel] : 0;
  for (let k = 0; k < width; k++)
    sum +=
      hostData(weight)[weight.offset + channel * weight.rowStride + k] *
      valueAt(inputs, b, t - width + 1 + k, t, channel);
  return sum;
}

/** The input of time `s` as it is seen at time `t`. */
function valueAt(inputs: ConvInputs, b: number, s: number, t: number, channel: number): number {
  const place = placeOf(inputs, inputs.documentStarts, b, s, t, channel);
  return place ? hostData(place.tensor)[place.index] : 0;
}

function placeOf(
  inputs: ConvInputs,
  starts: Tensor | undefined,
  b: number,
  s: number,
  t: number,
  channel: number,
): Place | undefined {
  const { weight, initialState } = inputs;
  const length = inputs.x?.shape[1] ?? starts?.shape[1] ?? 0;
  const width = weight.columns;
  const isStart = (later: number): boolean =>
    starts !== undefined && hostData(starts)[starts.offset + b * starts.rowStride + later] !== 0;
  for (let later = Math.max(s + 1, 0); later <= t; later++) if (isStart(later)) return undefined;
  const [tensor, row] = s >= 0 ? [inputs.x, b * length + s] : [initialState, b * (width - 1) + width - 1 + s];
  return tensor && { tensor, index: tensor.offset + row * tensor.rowStride + channel };
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}
