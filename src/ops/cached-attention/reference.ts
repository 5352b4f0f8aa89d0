// cachedAttention on the reference backend.
import type { ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import { headsOf } from "../causal-attention/heads.ts";
import { addScaled, dot, headAt, softmax } from "../causal-attention/reference.ts";
import type { CachedAttentionInputs, CachedAttentionOptions, CachedAttentionOutputs } from "./index.ts";

export function forward(
  call: ForwardCall<CachedAttentionInputs, CachedAttentionOutputs, CachedAttentionOptions>,
): void {
  const { q, k, v, keys, values, lengths } = call.inputs;
  const { y } = call.outputs;
  const { headDim, scale = headDim ** -0.5 } = call.options;
  const { length, nHeads, group } = headsOf("cachedAttention", call.inputs, headDim);
  const capacity = keys.shape[1];
  for (let row = 0; row < q.rows; row++) {
    const sequence = Math.floor(row / length);
    const place = hostData(lengths)[lengths.offset + sequence] + (row % length);
    if (place >= capacity) {
      headAt(y, row, 0, y.columns).fill(NaN);
      continue;
    }
    headAt(keys, sequence * capacity + place, 0, k.columns).set(headAt(k, row, 0, k.columns));
    headAt(values, sequence * capacity + place, 0, v.columns).set(headAt(v, row, 0, v.columns));
    for (let head = 0; head < nHeads; head++) {
      const keyHead = Math.floor(head / group);
      const query = headAt(q, row, head, headDim);
      const seen = Array.from({ length: place + 1 }, (_, key) => sequence * capacity + key);
      const { probabilities } = softmax(seen.map((key) => scale * dot(query, headAt(keys, key, keyHead, headDim))));
      const sum = headAt(y, row, head, headDim).fill(0);
      seen.forEach((key, i) => addScaled(sum, probabilities[i], headAt(values, key, keyHead, headDim)));
    }
  }
}
