// Attention: causal self-attention with rotary positions and grouped keys; its state is the cache of keys and values.
// Source: Vaswani et al. 2017; Su et al. 2021 (RoPE); Ainslie et al. 2023 (grouped keys and values).
import { ConfigError } from "../../../core/errors.ts";
import { Linear } from "../../../nn/linear.ts";
import { cachedAttention } from "../../../ops/cached-attention/index.ts";
import { causalAttention } from "../../../ops/causal-attention/index.ts";
import { rotary } from "../../../ops/rotary/index.ts";
import type { Tensor } from "../../../tensor/tensor.ts";
import type { MixerConfig } from "../config.ts";
import type { MixerContext, MixerResult, MixerState } from "../mixer.ts";
import { Mixer } from "../mixer.ts";
import { spentError } from "../state.ts";

type Config = Extract<MixerConfig, { kind: "attention" }>;
type Qkv = { readonly q: Tensor; readonly k: Tensor; readonly v: Tensor };

/** x `[batch, length, dModel]` -> the same shape. Queries, keys and values come from one product, in this order. */
export class Attention extends Mixer {
  readonly qkvProj: Linear;
  readonly outProj: Linear;
  readonly config: Config;

  constructor(dModel: number, config: Config) {
    super();
    const { nHeads, nKvHeads, headDim, useBias } = config;
    this.config = config;
    this.qkvProj = new Linear(dModel, (nHeads + 2 * nKvHeads) * headDim, { bias: useBias });
    this.outProj = new Linear(nHeads * headDim, dModel, { bias: useBias });
  }

  override cacheWidths(): Readonly<Record<string, number>> {
    const width = this.config.nKvHeads * this.config.headDim;
    return { keys: width, values: width };
  }

  forward(x: Tensor, state: MixerState, context: MixerContext): MixerResult {
    const { nHeads, nKvHeads, headDim } = this.config;
    const qkv = this.qkvProj.forward(x);
    const [kAt, vAt] = [nHeads * headDim, (nHeads + nKvHeads) * headDim];
    const q = this.#rotate(qkv.columnsOf(0, kAt), context);
    const k = this.#rotate(qkv.columnsOf(kAt, vAt), context);
    const v = qkv.columnsOf(vAt, qkv.columns);
    const { inPlace } = context;
    const y = inPlace ? this.#attendCached({ q, k, v }, state, context) : this.#attend({ q, k, v }, context);
    return { y: this.outProj.forward(y), state: inPlace ? state : {} };
  }

  #rotate(x: Tensor, { lengths }: MixerContext): Tensor {
    const { headDim, rotaryDim, ropeBase: base } = this.config;
    return rotaryDim === 0 ? x : rotary({ x, positions: lengths }, { headDim, rotaryDim, base }).y;
  }

  #attend(qkv: Qkv, { isFresh, firstVisible }: MixerContext): Tensor {
    if (!isFresh) throw spentError();
    return causalAttention({ ...qkv, firstVisible }, { headDim: this.config.headDim }).y;
  }

  #attendCached(qkv: Qkv, { keys, values }: MixerState, context: MixerContext): Tensor {
    if (context.documentStarts)
      throw new ConfigError(
        "StackModel.forward: attention with a cache does not know documents inside a sequence. Give each document a state of its own.",
      );
    const { headDim } = this.config;
    const length = qkv.q.shape[1];
    // A single token's step may be recorded and repeated at later positions, so it is shared out by the capacity.
    const options = length === 1 ? { headDim } : { headDim, most: context.position + length };
    return cachedAttention({ ...qkv, keys, values, lengths: context.lengths! }, options).y;
  }
}
