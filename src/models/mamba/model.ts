// The Mamba-1 language model: embedding, blocks, final norm, head.
// Source: state-spaces/mamba, models/mixer_seq_simple.py.
import type { Backend } from "../../backends/backend.ts";
import { ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { Embedding } from "../../nn/embedding.ts";
import type { ForwardOptions, ForwardResult, LanguageModel, LossOptions, LossResult } from "../../nn/language-model.ts";
import { Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { RmsNorm } from "../../nn/rms-norm.ts";
import { IGNORE_INDEX } from "../../ops/cross-entropy/index.ts";
import { linearCrossEntropy } from "../../ops/linear-cross-entropy/index.ts";
import { linear } from "../../ops/linear/index.ts";
import { checkpoint } from "../../tensor/checkpoint.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import { isStepFused, stepHead } from "../../ops/mamba-step/index.ts";
import { currentTape } from "../../tensor/tape.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { MambaBlock } from "./block.ts";
import type { MambaConfig } from "./config.ts";
import type { LayerState } from "./state.ts";
import { MambaState } from "./state.ts";

/** All but the head, under the name that checkpoints give it. */
class Backbone extends Module {
  readonly embeddings: Embedding;
  readonly layers: readonly MambaBlock[];
  readonly normF: RmsNorm;

  constructor(config: MambaConfig) {
    super();
    this.embeddings = new Embedding(config.vocabSize, config.dModel);
    this.layers = Array.from({ length: config.nLayer }, () => new MambaBlock(config));
    this.normF = new RmsNorm(config.dModel, { eps: config.normEps });
  }
}

/** Mamba-1 for language (Gu & Dao 2023): `forward`, `step` and `initialState`; parameters under the names of checkpoints. */
export class MambaModel extends Module implements LanguageModel<MambaState> {
  readonly config: MambaConfig;
  readonly backbone: Backbone;
  /**
   * Element type of what flows through the blocks: f16 halves the memory and speeds up the products of a GPU; sums, states
   * and the residual stream are float32 in any case. Default f32.
   */
  activations: "f32" | "f16" = "f32";
  /** Undefined when the head is the embedding's transpose. */
  readonly lmHead: Linear | undefined;

  /** A model without weights: initialise it (initializeMamba) or load a checkpoint. */
  constructor(config: MambaConfig) {
    super();
    this.config = config;
    this.backbone = new Backbone(config);
    this.lmHead = config.tieEmbeddings ? undefined : new Linear(config.dModel, config.vocabSize);
  }

  /** The device that holds the weights. */
  get backend(): Backend {
    return this.backbone.normF.weight.tensor.backend;
  }

  /** The state before the first token, for `batch` sequences. */
  initialState(batch = 1): MambaState {
    return MambaState.initial(this.config, this.backend, batch);
  }

  /** States side by side as one batch; the given ones stay. */
  stackStates(states: readonly MambaState[]): MambaState {
    return MambaState.stack(states);
  }

  /**
   * Logits for the token after each given one, and the state after the last. Equal (bit for bit) however a sequence is
   * cut into calls, and whatever else is in the batch.
   * @param tokens i32 `[batch, length]`
   * @param state from {@link initialState} or an earlier call; it stays as it is unless `inPlace`
   * @throws ShapeError, DataError (a token id beyond the vocabulary)
   */
  forward(tokens: Tensor, state: MambaState, options: ForwardOptions = {}): ForwardResult<MambaState> {
    this.#check(tokens, state);
    return tapeOrScope(() => {
      const result = this.#runBlocks(tokens, state, options);
      const hidden = options.logits === "last" ? lastPositions(result.hidden) : result.hidden;
      return { logits: this.head(hidden), state: result.state };
    });
  }

  /**
   * Losses of the targets i32 `[batch, length]`, without ever holding all logits. Equal to crossEntropy of
   * {@link forward}'s logits.
   * @throws ShapeError, DataError (a token or target beyond the vocabulary)
   */
  loss(
    tokens: Tensor,
    targets: Tensor,
    state: MambaState,
    { ignoreIndex = IGNORE_INDEX, checked = true, ...options }: LossOptions = {},
  ): LossResult<MambaState> {
    this.#check(tokens, state);
    return tapeOrScope(() => {
      const result = this.#runBlocks(tokens, state, { ...options, checked });
      const x = this.backbone.normF.forward(result.hidden, this.activations);
      const scored = linearCrossEntropy({ x, weight: this.#headWeight.tensor, targets }, { ignoreIndex, checked });
      return { ...scored, state: result.state };
    });
  }

  /** {@link forward} of one token a sequence, in place: tokens i32 `[batch, 1]` -> logits `[batch, 1, vocabSize]`. */
  step(tokens: Tensor, state: MambaState): Tensor {
    return this.forward(tokens, state, { logits: "last", inPlace: true }).logits;
  }

  /** Logits from the output of the last block. */
  head(hidden: Tensor): Tensor {
    const { tensor: weight } = this.#headWeight;
    const { normF } = this.backbone;
    if (!currentTape() && isStepFused(hidden, [weight]))
      return stepHead({ hidden, norm: normF.weight.tensor, weight }, { eps: normF.eps }).y;
    const x = this.backbone.normF.forward(hidden, this.activations);
    return linear({ x, weight, bias: undefined }, { dtype: "f32" }).y;
  }

  override dispose(): void {
    super.dispose();
    for (const layer of this.backbone.layers) layer.mixer.dispose();
  }

  /** The weight of the head: its own, or the embedding's. */
  get #headWeight(): Parameter {
    return (this.lmHead ?? this.backbone.embeddings).weight;
  }

  /** The output of the last block, and the state after the last token. */
  #runBlocks(
    tokens: Tensor,
    state: MambaState,
    { documentStarts, inPlace = false, checked = true, checkpointBlocks = false }: ForwardOptions,
  ): { hidden: Tensor; state: MambaState } {
    const context = { documentStarts, inPlace, activations: this.activations };
    let hidden = this.backbone.embeddings.forward(tokens, { checked });
    const layers: LayerState[] = [];
    for (const [i, layer] of this.backbone.layers.entries()) {
      const before = hidden;
      const { conv, ssm } = state.layers[i];
      const run = (): { y: Tensor; state: LayerState } => layer.forward(before, state.layers[i], context);
      const result = checkpointBlocks ? checkpoint([before, conv, ssm], run) : tapeOrScope(run);
      // Else one a layer would lie there until the end.
      if (!currentTape()) before.dispose();
      hidden = result.y;
      layers.push(result.state);
    }
    return { hidden, state: inPlace ? state : new MambaState(layers) };
  }

  #check(tokens: Tensor, state: MambaState): void {
    const [batch, length] = tokens.shape;
    if (tokens.shape.length !== 2 || tokens.dtype !== "i32" || !length)
      throw new ShapeError(
        `MambaModel.forward: tokens must be i32 [batch, length >= 1], got ${tokens.dtype} ${formatShape(tokens.shape)}.`,
      );
    if (state.batch !== batch)
      throw new ShapeError(
        `MambaModel.forward: the state is for a batch of ${state.batch}, the tokens for one of ${batch}. Use initialState(${batch}).`,
      );
  }
}

/** Without a tape what `body` makes on the way is freed; a tape needs it. */
function tapeOrScope<T>(body: () => T): T {
  return currentTape() ? body() : scope(body);
}

/** `[batch, length, width]` -> a view `[batch, 1, width]` of the last positions. */
function lastPositions(hidden: Tensor): Tensor {
  const [batch, length, width] = hidden.shape as [number, number, number];
  return hidden
    .reshape([batch, length * width])
    .columnsOf((length - 1) * width, length * width)
    .reshape([batch, 1, width]);
}
