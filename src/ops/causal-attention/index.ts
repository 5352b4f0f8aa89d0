// causalAttention: each token attends to itself and to the tokens before it; never holds a matrix of length x length.
// Source: Vaswani et al. 2017, eq. 1; by tiles with a running softmax, Dao et al. 2022 ("FlashAttention"), Alg. 1 and 4.
import { DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { headsOf } from "./heads.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpuGradient from "./webgpu-gradient.ts";
import * as webgpu from "./webgpu.ts";

export type AttentionInputs = {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly firstVisible?: Tensor | undefined;
};
export type AttentionOutputs = { readonly y: Tensor };

export interface AttentionOptions {
  /** Channels of a head. */
  readonly headDim: number;
  /** What products of queries and keys are multiplied by. Default 1 / sqrt(headDim). */
  readonly scale?: number;
}

/**
 * For each head: y[t] = sum over s <= t of p[t, s] v[s], p[t, :] = softmax over s <= t of scale q[t] · k[s].
 *
 * With fewer heads of keys and values than of queries, neighbouring heads of queries share one (grouped queries).
 * @param q `[batch, length, nHeads · headDim]`, may be a view of columns
 * @param k, v `[batch, length, nKvHeads · headDim]`, nHeads a multiple of nKvHeads; may be views of columns
 * @param firstVisible i32 `[batch, length]`, 0..t, optional: the first key that token t may see, so that documents side by
 * side do not see each other
 * @returns y, the shape and dtype of q
 * @throws ShapeError, DTypeError; ConfigError for a headDim above 256
 */
export const causalAttention: Op<AttentionInputs, AttentionOutputs, AttentionOptions> = defineOp<
  AttentionInputs,
  AttentionOutputs,
  AttentionOptions
>({
  name: "causalAttention",
  shape({ q, k, v, firstVisible }, { headDim }) {
    const { batch, length } = headsOf("causalAttention", { q, k, v }, headDim);
    if (firstVisible && !isSameShape(firstVisible.shape, [batch, length]))
      throw new ShapeError(
        `causalAttention: firstVisible must be [batch, length] = [${batch}, ${length}], got ${formatShape(firstVisible.shape)}.`,
      );
    if (firstVisible && firstVisible.dtype !== "i32")
      throw new DTypeError(`causalAttention: firstVisible must be i32, got ${firstVisible.dtype}.`);
    return { y: { shape: q.shape, dtype: q.dtype } };
  },
  /** The logarithm of the softmax's denominator: enough to compute its probabilities again. */
  saves: ({ q }, { headDim }) => ({ logSum: { shape: [q.shape[0], q.shape[1], q.columns / headDim] } }),
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["q", "k", "v"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpuGradient.backward },
  },
});
