// causalAttention on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { headsOf } from "./heads.ts";
import type { AttentionInputs, AttentionOptions, AttentionOutputs } from "./index.ts";

export function forward(call: ForwardCall<AttentionInputs, AttentionOutputs, AttentionOptions>): void {
  const { q, k, v } = call.inputs;
  forEachQuery(call.inputs, call.options, ({ row, head, keyHead, keys, scale }) => {
    const { headDim } = call.options;
    const query = headAt(q, row, head, headDim);
    const scores = keys.map((key) => scale * dot(query, headAt(k, key, keyHead, headDim)));
    const { probabilities, logSum } = softmax(scores);
    const y = headAt(call.outputs.y, row, head, headDim).fill(0);
    keys.forEach((key, i) => addScaled(y, probabilities[i], headAt(v, key, keyHead, headDim)));
    if (call.saved) headAt(call.saved.logSum, row, head, 1)[0] = logSum;
  });
}

/**
 * With p the probabilities of a query, dp[s] = grad.y · v[s] and ds = p (dp - sum of p dp):
 * grad.q += scale sum of ds[s] k[s]; grad.k[s] += scale ds[s] q; grad.v[s] += p[s] grad.y.
 */
export function backward(call: BackwardCall<AttentionInputs, AttentionOutputs, AttentionOptions>): void {
  const { q, k, v } = call.inputs;
  const { y: gradY } = call.gradOutputs;
  const { q: gradQ, k: gradK, v: gradV } = call.gradInputs;
  if (!gradY) return;
  forEachQuery(call.inputs, call.options, ({ row, head, keyHead, keys, scale }) => {
    const { headDim } = call.options;
    const query = headAt(q, row, head, headDim);
    const g = headAt(gradY, row, head, headDim);
    const { probabilities } = softmax(keys.map((key) => scale * dot(query, headAt(k, key, keyHead, headDim))));
    const dp = keys.map((key) => dot(g, headAt(v, key, keyHead, headDim)));
    const mean = dot(probabilities, dp);
    keys.forEach((key, i) => {
      const ds = scale * probabilities[i] * (dp[i] - mean);
      if (gradQ) addScaled(headAt(gradQ, row, head, headDim), ds, headAt(k, key, keyHead, headDim));
      if (gradK) addScaled(headAt(gradK, key, keyHead, headDim), ds, query);
      if (gradV) addScaled(headAt(gradV, key, keyHead, headDim), probabilities[i], g);
    });
  });
}

/** A head of a query, and the rows of the keys that it sees. */
interface Query {
  readonly row: number;
  readonly head: number;
  readonly keyHead: number;
  readonly keys: readonly number[];
  readonly scale: number;
}

function forEachQuery(
  inputs: AttentionInputs,
  { headDim, scale = headDim ** -0.5 }: AttentionOptions,
  body: (query: Query) => void,
): void {
  const { firstVisible } = inputs;
  const { length, nHeads, group } = headsOf("causalAttention", inputs, headDim);
  for (let row = 0; row < inputs.q.rows; row++) {
    const [sequence, t] = [Math.floor(row / length), row % length];
    const first = firstVisible
      ? hostData(firstVisible)[firstVisible.offset + sequence * firstVisible.rowStride + t]
      : 0;
    const keys = Array.from({ length: t + 1 - first }, (_, i) => sequence * length + first + i);
    for (let head = 0; head < nHeads; head++) body({ row, head, keyHead: Math.floor(head / group), keys, scale });
  }
}

/** The channels of a head in a row of a tensor. */
export function headAt(tensor: Tensor, row: number, head: number, headDim: number): Float64Array {
  const at = tensor.offset + row * tensor.rowStride + head * headDim;
  return hostData(tensor).subarray(at, at + headDim);
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

export function addScaled(to: Float64Array, factor: number, from: ArrayLike<number>): void {
  for (let i = 0; i < to.length; i++) to[i] += factor * from[i];
}

/** The softmax of scores, and the logarithm of the sum of their exponentials. */
export function softmax(scores: readonly number[]): { readonly probabilities: number[]; readonly logSum: number } {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((score) => Math.exp(score - most));
  const sum = weights.reduce((a, b) => a + b, 0);
  return { probabilities: weights.map((weight) => weight / sum), logSum: most + Math.log(sum) };
}
