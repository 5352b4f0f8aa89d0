// Mixer: what a residual branch of a stack is made of, between its norm and the addition.
import type { Random } from "../../core/random.ts";
import type { Shape } from "../../core/shape.ts";
import { Module } from "../../nn/module.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** A mixer's part of the state, by name; empty for one that remembers nothing. */
export type MixerState = Readonly<Record<string, Tensor>>;

/** Where a sequence stands. */
export interface MixerContext {
  /** i32 `[batch, length]`, 1 where the state is forgotten before this token, because a new document begins. */
  readonly documentStarts?: Tensor | undefined;
  /** i32 `[batch, length]`: the first position of this call that each token may look back to; with documentStarts. */
  readonly firstVisible?: Tensor | undefined;
  /**
   * Write the new state over the given one: so it is without gradients, and never with them. What a block does must follow
   * from this, not from the tape, which is absent when a block is computed to be forgotten and made again.
   */
  readonly inPlace: boolean;
  /** The state is that before the first token: zeros. */
  readonly isFresh: boolean;
  /** Whether the state after the last token is wanted. */
  readonly finalState: boolean;
  /** i32 `[batch]`: tokens of each row so far, on the device. Undefined in a stack without attention, and under a tape. */
  readonly lengths?: Tensor | undefined;
  /** Tokens of the longest row so far, as far as the host knows. */
  readonly position: number;
}

/** What came out of a branch. */
export interface MixerResult {
  readonly y: Tensor;
  readonly state: MixerState;
  /** `[]`: added to the loss by training. */
  readonly auxiliary?: Tensor | undefined;
}

/** First values of a parameter, element by element. */
export type ElementRule = (index: number) => number;

/** What first values depend on. */
export interface InitContext {
  readonly random: Random;
  /** Branches that add to the residual stream, in all. */
  readonly branches: number;
}

/** x `[batch, length, dModel]`, normed -> the same shape. */
export abstract class Mixer extends Module {
  abstract forward(x: Tensor, state: MixerState, context: MixerContext): MixerResult;

  /** Shapes of its state for a batch, where that has a constant size. */
  stateShapes(_batch: number): Readonly<Record<string, Shape>> {
    return {};
  }

  /** Columns of its caches, where it keeps one row a token: names and widths. */
  cacheWidths(): Readonly<Record<string, number>> {
    return {};
  }

  /** First values of one of its parameters, by its name inside the mixer. Default: {@link defaultRule}. */
  elementRule(name: string, parameter: Parameter, context: InitContext): ElementRule {
    return defaultRule(name, parameter, context);
  }

  /** Gives back what is derived from parameters. */
  releaseDerived(): void {
    // Most keep nothing.
  }
}

/** U(±bound). */
export function uniform(random: Random, bound: number): ElementRule {
  return () => (2 * random.uniform() - 1) * bound;
}

/**
 * The rule that Mamba has, for all: weights U(±fanIn^-½), those of out_proj and down over √branches, biases 0, norms and D 1.
 */
export function defaultRule(name: string, { shape }: Parameter, { random, branches }: InitContext): ElementRule {
  if (name.endsWith("bias")) return () => 0;
  if (name.endsWith("norm.weight") || name === "D" || name.endsWith(".D")) return () => 1;
  const bound = shape.at(-1)! ** -0.5;
  return uniform(random, /(^|\.)(out_proj|down)(\.weight)?$/.test(name) ? bound / Math.sqrt(branches) : bound);
}
