// LanguageModel: what training and generation need of a model, whatever its architecture.
import type { Backend } from "../backends/backend.ts";
import type { Parameter } from "../tensor/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { SavedArrays } from "./saved-arrays.ts";

/** What a model remembers of the tokens so far: a value of its own, on the device. */
export interface ModelState {
  /** Sequences side by side. */
  readonly batch: number;
  /** A copy that goes its own way. */
  fork(): ModelState;
  /** The rows `indices` of the batch, as a new state. */
  select(indices: readonly number[]): ModelState;
  /** All numbers, by name, as float32; the same bytes on every device. */
  toArrays(): Promise<NamedArray[]>;
  /** Tokens more a row that fit without new memory. Undefined: any number, the state has a constant size. */
  readonly room?: number | undefined;
  /** Makes room for so many tokens more, once, so that steps recorded afterwards can be repeated so often. */
  reserve?(tokens: number): void;
  /** Tells of tokens a row that a repeated step consumed. */
  advance?(tokens: number): void;
  dispose(): void;
}

/** Numbers with a name and a shape, as a file holds them. */
export interface NamedArray {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** How a model runs over tokens. */
export interface ForwardOptions {
  /** Which positions get logits: all, or only the last of each sequence (prefill). Default "all". */
  logits?: "all" | "last";
  /** i32 `[batch, length]`, 1 where a new document begins: the state is forgotten before this token. */
  documentStarts?: Tensor | undefined;
  /** Write the new state over the given one, which saves its memory. Not while training. */
  inPlace?: boolean;
  /** Whether token ids are checked against the vocabulary first. Default true. */
  checked?: boolean;
  /** While a tape records: keep only what goes in and out of a block, and compute the block again for its gradients. */
  checkpointBlocks?: boolean;
  /**
   * Whether the state after the last token is wanted; default true. Without it a model may take a way that leaves none (a
   * convolution over the whole sequence); the state that it returns then only serves to be disposed of.
   */
  finalState?: boolean;
}

/** How a model is scored. */
export interface LossOptions extends Pick<
  ForwardOptions,
  "documentStarts" | "inPlace" | "checked" | "checkpointBlocks" | "finalState"
> {
  /** Target that is not scored. Default -100. */
  ignoreIndex?: number;
}

/** How well a model predicts targets, in nats, and the state after the last token. */
export interface LossResult<State extends ModelState> {
  /** `[]`: mean of the losses of the targets that are scored. */
  readonly loss: Tensor;
  /** `[]`: what training makes small where that is more than the loss (a mixture's balance). Default: the loss. */
  readonly objective?: Tensor | undefined;
  /** `[batch, length]`, 0 where a target is not scored. */
  readonly losses: Tensor;
  readonly state: State;
}

/** Logits and the state after the last token. */
export interface ForwardResult<State extends ModelState> {
  /** `[batch, length, vocabSize]`, or `[batch, 1, vocabSize]` for logits "last". Not normalised. */
  readonly logits: Tensor;
  /** The state after the last token. */
  readonly state: State;
}

/** A model of tokens with a state of its own: Mamba, and whatever is to be compared with it. */
export interface LanguageModel<State extends ModelState = ModelState> {
  readonly backend: Backend;
  readonly config: { readonly vocabSize: number; readonly eosTokenId: number | undefined };
  /** Parameters by checkpoint name. */
  namedParameters(): Map<string, Parameter>;
  /** The state before the first token. */
  initialState(batch?: number): State;
  /** States of single sequences, copied side by side into one. */
  stackStates(states: readonly State[]): State;
  /**
   * A state from the arrays of {@link ModelState.toArrays}. `where` names their file in errors.
   * @throws CheckpointError when names or shapes are not those of this model
   */
  stateFrom(saved: SavedArrays, where: string): Promise<State>;
  /** tokens i32 `[batch, length]` -> logits and the state after the last. While a tape records, it is differentiable. */
  forward(tokens: Tensor, state: State, options?: ForwardOptions): ForwardResult<State>;
  /** Losses of targets i32 `[batch, length]` without all logits at once. A model without it is scored by its logits. */
  loss?(tokens: Tensor, targets: Tensor, state: State, options?: LossOptions): LossResult<State>;
  /** Element type of what flows through the blocks, where the model has a choice. Set by training in mixed precision. */
  activations?: "f32" | "f16";
}
