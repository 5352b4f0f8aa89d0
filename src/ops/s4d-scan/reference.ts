// s4dScan on the reference backend: the recurrence, and its gradients from all states.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Complex, DiscretePair } from "../s4d-kernel/parameters.ts";
import { addPairGradients, addTo, at, discretePair, multiply } from "../s4d-kernel/parameters.ts";
import type { S4dScanInputs, S4dScanOutputs } from "./index.ts";

const ZERO: Complex = { re: 0, im: 0 };

export function forward(call: ForwardCall<S4dScanInputs, S4dScanOutputs, object>): void {
  const { x, D } = call.inputs;
  const { y, finalState } = call.outputs;
  const [batch, length, channels] = x.shape;
  const pairs = call.inputs.A_imag.columns;
  for (let b = 0; b < batch; b++)
    for (let channel = 0; channel < channels; channel++) {
      const sums = new Float64Array(length);
      for (let pair = 0; pair < pairs; pair++) {
        const discrete = discretePair(call.inputs, channel, pair);
        const states = statesOf(call.inputs, b, channel, pair, discrete);
        for (let t = 0; t < length; t++) sums[t] += 2 * multiply(discrete.C, states[t + 1]).re;
        put(finalState, b * channels + channel, 2 * pair, states[length].re);
        put(finalState, b * channels + channel, 2 * pair + 1, states[length].im);
      }
      const skip = D ? hostData(D)[D.offset + channel] : 0;
      for (let t = 0; t < length; t++) put(y, b * length + t, channel, sums[t] + skip * at(x, b * length + t, channel));
    }
}

/** states[t + 1] is the state after step t, states[0] the one before all. */
function statesOf(
  { x, initialState, documentStarts }: S4dScanInputs,
  b: number,
  channel: number,
  pair: number,
  { ABar, BBar }: DiscretePair,
): Complex[] {
  const [, length, channels] = x.shape;
  const row = b * channels + channel;
  const states: Complex[] = [
    initialState ? { re: at(initialState, row, 2 * pair), im: at(initialState, row, 2 * pair + 1) } : ZERO,
  ];
  for (let t = 0; t < length; t++) {
    const input = at(x, b * length + t, channel);
    const { re, im } = isStart(documentStarts, b, t) ? ZERO : multiply(ABar, states[t]);
    states.push({ re: re + BBar.re * input, im: im + BBar.im * input });
  }
  return states;
}

/** With G[t] = 2 C grad.y[t] + ABar G[t+1], G[length] from grad.finalState: see README.md. */
export function backward(call: BackwardCall<S4dScanInputs, S4dScanOutputs, object>): void {
  const [batch, length, channels] = call.inputs.x.shape;
  const pairs = call.inputs.A_imag.columns;
  const { x, D } = call.inputs;
  const { x: gradX, D: gradD } = call.gradInputs;
  const { y: gradY } = call.gradOutputs;
  for (let b = 0; b < batch; b++)
    for (let channel = 0; channel < channels; channel++) {
      for (let pair = 0; pair < pairs; pair++) backwardPair(call, b, channel, pair);
      const skip = D ? hostData(D)[D.offset + channel] : 0;
      for (let t = 0; gradY && t < length; t++) {
        const grad = at(gradY, b * length + t, channel);
        addTo(gradX, b * length + t, channel, skip * grad);
        addTo(gradD, 0, channel, grad * at(x, b * length + t, channel));
      }
    }
}

function backwardPair(
  { inputs, gradInputs, gradOutputs }: BackwardCall<S4dScanInputs, S4dScanOutputs, object>,
  b: number,
  channel: number,
  pair: number,
): void {
  const { x, documentStarts } = inputs;
  const { y: gradY, finalState: gradFinal } = gradOutputs;
  const [, length, channels] = x.shape;
  const row = b * channels + channel;
  const discrete = discretePair(inputs, channel, pair);
  const { ABar, BBar, C } = discrete;
  const states = statesOf(inputs, b, channel, pair, discrete);
  const [ofPower, ofB, ofC] = [0, 1, 2].map(() => ({ re: 0, im: 0 }));
  // ABar G of the step behind, 0 where a document starts there.
  let carried: Complex = gradFinal ? { re: at(gradFinal, row, 2 * pair), im: -at(gradFinal, row, 2 * pair + 1) } : ZERO;
  for (let t = length - 1; t >= 0; t--) {
    const grad = gradY ? at(gradY, b * length + t, channel) : 0;
    const G = { re: carried.re + 2 * C.re * grad, im: carried.im + 2 * C.im * grad };
    carried = isStart(documentStarts, b, t) ? ZERO : multiply(ABar, G);
    accumulate(ofPower, multiply(carried, states[t]), 1);
    accumulate(ofB, G, at(x, b * length + t, channel));
    accumulate(ofC, states[t + 1], grad);
    addTo(gradInputs.x, b * length + t, channel, multiply(G, BBar).re);
  }
  addTo(gradInputs.initialState, row, 2 * pair, carried.re);
  addTo(gradInputs.initialState, row, 2 * pair + 1, -carried.im);
  addPairGradients(gradInputs, channel, pair, discrete, { ofPower, ofB, ofC });
}

function accumulate(sum: { re: number; im: number }, value: Complex, factor: number): void {
  sum.re += value.re * factor;
  sum.im += value.im * factor;
}

function isStart(documentStarts: Tensor | undefined, b: number, t: number): boolean {
  return documentStarts !== undefined && at(documentStarts, b, t) !== 0;
}

function put(tensor: Tensor, row: number, column: number, value: number): void {
  hostData(tensor)[tensor.offset + row * tensor.rowStride + column] = value;
}
