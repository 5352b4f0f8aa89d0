// cachedAttention: attention of new tokens to those before them, whose keys and values lie in a cache. No gradients.
import { BackendError, DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { headsOf } from "../causal-attention/heads.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type CachedAttentionInputs = {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  /** The cache. Written. */
  readonly keys: Tensor;
  /** The cache. Written. */
  readonly values: Tensor;
  readonly lengths: Tensor;
};
export type CachedAttentionOutputs = { readonly y: Tensor };

export interface CachedAttentionOptions {
  /** Channels of a head. */
  readonly headDim: number;
  /** What products of queries and keys are multiplied by. Default 1 / sqrt(headDim). */
  readonly scale?: number;
  /**
   * How many tokens a row holds at the most behind this call, as far as the host knows: it decides how the work is shared
   * and never the result, so a recorded plan may outgrow it. Default: the capacity.
   */
  readonly most?: number;
}

/**
 * Writes k and v behind the `lengths[b]` tokens that row b of the cache holds, **in place**; then, for new token t,
 *
 *     y[t] = sum over s <= lengths[b] + t of p[s] values[s],  p = softmax of scale q[t] · keys[s]
 *
 * `lengths` stays as it is: see advanceLengths, which comes behind the last layer. It is read on the device alone.
 * @param q `[batch, length, nHeads · headDim]`, may be a view of columns
 * @param k, v `[batch, length, nKvHeads · headDim]`, nHeads a multiple of nKvHeads; may be views of columns
 * @param keys, values `[batch, capacity, nKvHeads · headDim]`, closed-up rows
 * @param lengths i32 `[batch]`, 0..capacity - length. Tokens beyond the capacity are not kept, and their y is NaN
 * @returns y, the shape and dtype of q
 * @throws ShapeError, DTypeError, BackendError; ConfigError for a headDim above 256
 */
export const cachedAttention: Op<CachedAttentionInputs, CachedAttentionOutputs, CachedAttentionOptions> = defineOp<
  CachedAttentionInputs,
  CachedAttentionOutputs,
  CachedAttentionOptions
>({
  name: "cachedAttention",
  shape(inputs, { headDim }) {
    const { q, k, keys, values, lengths } = inputs;
    const { batch } = headsOf("cachedAttention", inputs, headDim);
    if (!isSameShape(keys.shape, [batch, keys.shape[1], k.columns]) || !isSameShape(keys.shape, values.shape))
      throw new ShapeError(
        `cachedAttention: keys and values must be [${batch}, capacity, ${k.columns}], got ${formatShape(keys.shape)} and ${formatShape(values.shape)}.`,
      );
    if (!isSameShape(lengths.shape, [batch]))
      throw new ShapeError(`cachedAttention: lengths must be [batch] = [${batch}], got ${formatShape(lengths.shape)}.`);
    if (lengths.dtype !== "i32") throw new DTypeError(`cachedAttention: lengths must be i32, got ${lengths.dtype}.`);
    if (!keys.isContiguous || !values.isContiguous)
      throw new BackendError("cachedAttention: the cache must have closed-up rows, since it changes in place.");
    if (keys.storage === values.storage)
      throw new BackendError(
        "cachedAttention: keys and values must be tensors of their own, since kernels write both.",
      );
    return { y: { shape: q.shape, dtype: q.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
});
