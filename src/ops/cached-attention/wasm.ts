// cachedAttention on the WASM backend: binds kernels/assembly/cache.ts and attention.ts.
import { floatBits } from "../../backends/wasm/index.ts";
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { headsOf } from "../causal-attention/heads.ts";
import { placesOf } from "../causal-attention/wasm.ts";
import type { CachedAttentionInputs, CachedAttentionOptions, CachedAttentionOutputs } from "./index.ts";

/** Elements to be copied below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;
/** Products of numbers, likewise. */
const SERIAL_PRODUCTS = 1 << 14;

export function forward(
  {
    inputs,
    outputs: { y },
    options,
  }: ForwardCall<CachedAttentionInputs, CachedAttentionOutputs, CachedAttentionOptions>,
  backend: WasmBackend,
): void {
  const { q, k, v, keys, values, lengths } = inputs;
  const capacity = keys.shape[1];
  const { headDim, scale = headDim ** -0.5, most = capacity } = options;
  const { batch, length, nHeads, group } = headsOf("cachedAttention", inputs, headDim);
  const cache = [pointer(keys), pointer(values), pointer(lengths)];
  const append = [...placesOf(k, v), ...cache, batch, length, capacity, k.columns];
  backend.dispatch("cacheAppend", append, k.size < SERIAL_ELEMENTS);
  const args = [...placesOf(q, keys, values, y), 0, 0, pointer(lengths)];
  args.push(batch, length, nHeads, group, headDim, capacity, floatBits(scale));
  backend.dispatch("attention", args, q.size * most < SERIAL_PRODUCTS);
}
