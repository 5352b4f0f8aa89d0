// ResidualModel: what all language models here share: an embedding, residual layers, a final norm and a head.
import type { Backend } from "../backends/backend.ts";
import { ShapeError } from "../core/errors.ts";
import { formatShape } from "../core/shape.ts";
import type { Embedding } from "../nn/embedding.ts";
import type {
  ForwardOptions,
  ForwardResult,
  LanguageModel,
  LossOptions,
  LossResult,
  ModelState,
} from "../nn/language-model.ts";
import type { Linear } from "../nn/linear.ts";
import { Module } from "../nn/module.ts";
import type { SavedArrays } from "../nn/saved-arrays.ts";
import { add } from "../ops/add/index.ts";
import { IGNORE_INDEX } from "../ops/cross-entropy/index.ts";
import { linearCrossEntropy } from "../ops/linear-cross-entropy/index.ts";
import { linear } from "../ops/linear/index.ts";
import type { Parameter } from "../tensor/parameter.ts";
import { scope } from "../tensor/scope.ts";
import { currentTape } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** What every configuration says. */
export interface ResidualConfig {
  /** Rows of the embedding, padding included. */
  readonly vocabSize: number;
  /** Id of the token that ends a text, if there is one. */
  readonly eosTokenId: number | undefined;
}

/** What a sequence keeps in memory. */
export interface StateBytes {
  readonly constant: number;
  readonly perToken: number;
}

/** A norm over the last axis. */
export interface Norm {
  readonly weight: Parameter;
  forward(x: Tensor, dtype?: "f32" | "f16"): Tensor;
}

/** What the layers made of an embedded sequence. */
export interface LayersResult<State> {
  readonly hidden: Tensor;
  readonly state: State;
  /** `[]`: added to the loss by training. */
  readonly auxiliary?: Tensor | undefined;
}

/** `forward`, `loss`, `step` and `head` over the layers of a subclass. */
export abstract class ResidualModel<State extends ModelState> extends Module implements LanguageModel<State> {
  abstract readonly config: ResidualConfig;
  /**
   * Element type of what flows through the blocks: f16 halves the memory and speeds up the products of a GPU; sums, states
   * and the residual stream are float32 in any case. Default f32.
   */
  activations: "f32" | "f16" = "f32";
  /** Undefined when the head is the embedding's transpose. */
  abstract readonly lmHead: Linear | undefined;

  protected abstract readonly embedding: Embedding;
  protected abstract readonly lastNorm: Norm;

  /** Bytes of a sequence's state in float32: those of constant size, and those that each token adds. */
  abstract get stateBytes(): StateBytes;
  abstract initialState(batch?: number): State;
  abstract stackStates(states: readonly State[]): State;
  abstract stateFrom(saved: SavedArrays, where: string): Promise<State>;
  /** The residual stream after the last layer, and the state after the last token. */
  protected abstract runLayers(embedded: Tensor, state: State, options: ForwardOptions): LayersResult<State>;

  /** The device that holds the weights. */
  get backend(): Backend {
    return this.lastNorm.weight.tensor.backend;
  }

  /**
   * Logits for the token after each given one, and the state after the last. Equal (bit for bit on the CPU) however a
   * sequence is cut into calls, and whatever else is in the batch.
   * @param tokens i32 `[batch, length]`
   * @param state from {@link initialState} or an earlier call; it stays as it is unless `inPlace`
   * @throws ShapeError, DataError (a token id beyond the vocabulary)
   */
  forward(tokens: Tensor, state: State, options: ForwardOptions = {}): ForwardResult<State> {
    this.#check(tokens, state);
    return tapeOrScope(() => {
      const result = this.#run(tokens, state, options);
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
    state: State,
    { ignoreIndex = IGNORE_INDEX, checked = true, ...options }: LossOptions = {},
  ): LossResult<State> {
    this.#check(tokens, state);
    return tapeOrScope(() => {
      const result = this.#run(tokens, state, { ...options, checked });
      const x = this.lastNorm.forward(result.hidden, this.activations);
      const scored = linearCrossEntropy({ x, weight: this.headWeight.tensor, targets }, { ignoreIndex, checked });
      const objective = result.auxiliary && add({ a: scored.loss, b: result.auxiliary }, {}).y;
      return { ...scored, objective, state: result.state };
    });
  }

  /** {@link forward} of one token a sequence, in place: tokens i32 `[batch, 1]` -> logits `[batch, 1, vocabSize]`. */
  step(tokens: Tensor, state: State): Tensor {
    return this.forward(tokens, state, { logits: "last", inPlace: true }).logits;
  }

  /** Logits from the output of the last layer. */
  head(hidden: Tensor): Tensor {
    const x = this.lastNorm.forward(hidden, this.activations);
    return linear({ x, weight: this.headWeight.tensor, bias: undefined }, { dtype: "f32" }).y;
  }

  /** The weight of the head: its own, or the embedding's. */
  protected get headWeight(): Parameter {
    return (this.lmHead ?? this.embedding).weight;
  }

  #run(tokens: Tensor, state: State, options: ForwardOptions): LayersResult<State> {
    return this.runLayers(this.embedding.forward(tokens, { checked: options.checked ?? true }), state, options);
  }

  #check(tokens: Tensor, state: State): void {
    const [batch, length] = tokens.shape;
    const where = `${this.constructor.name}.forward`;
    if (tokens.shape.length !== 2 || tokens.dtype !== "i32" || !length)
      throw new ShapeError(
        `${where}: tokens must be i32 [batch, length >= 1], got ${tokens.dtype} ${formatShape(tokens.shape)}.`,
      );
    if (state.batch !== batch)
      throw new ShapeError(
        `${where}: the state is for a batch of ${state.batch}, the tokens for one of ${batch}. Use initialState(${batch}).`,
      );
  }
}

/** Without a tape what `body` makes on the way is freed; a tape needs it. */
export function tapeOrScope<T>(body: () => T): T {
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
