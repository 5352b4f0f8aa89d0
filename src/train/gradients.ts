// The forward and backward pass of one step: gradients of the mean loss over some batches, and the state after them.
import { DataError } from "../core/errors.ts";
import type { Batch } from "../data/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import { scaleInPlace } from "../ops/adamw/index.ts";
import type { Parameter } from "../tensor/parameter.ts";
import { compileOnce } from "../tensor/compile-ahead.ts";
import { scope } from "../tensor/scope.ts";
import { Tape } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { copyOf, tensorFrom } from "../tensor/tensor.ts";
import { lossOf } from "./loss.ts";

export interface StepLoss<S> {
  /** Nats per target; on a GPU it is known when the device is done. */
  readonly loss: Promise<number>;
  /** After the last batch, without gradients; undefined unless the state is carried. The caller's to dispose of. */
  readonly state: S | undefined;
}

export interface GradientOptions {
  /** Whether each batch begins with the state that the one before ended with. */
  readonly carryState: boolean;
  /** Target that is not scored. */
  readonly ignoreIndex: number;
  /** Whether blocks are computed again in the backward pass. */
  readonly checkpointBlocks?: boolean;
  /** Factor of the gradients, a scalar on the device. Default 1. */
  readonly lossScale?: Tensor | undefined;
}

/**
 * Adds d(lossScale · loss)/d(parameter) to every parameter's gradient, where loss is the mean over the scored targets of
 * all batches (so that two batches of 4 are one batch of 8, whatever is ignored in either). Everything else made on the
 * way is freed. Waits for nothing.
 * @param state before the first batch, undefined for a fresh one; it is consumed
 * @throws DataError when no target is scored
 */
export function addGradients<S extends ModelState>(
  model: LanguageModel<S>,
  parameters: readonly Parameter[],
  batches: readonly Batch[],
  state: S | undefined,
  options: GradientOptions,
): StepLoss<S> {
  const { carryState, ignoreIndex } = options;
  const counts = batches.map(({ targets }) => targets.reduce((n, target) => n + (target === ignoreIndex ? 0 : 1), 0));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0)
    throw new DataError(`train: no target of a step is scored (all are ${ignoreIndex}). Check the data.`);
  const parts: Promise<number>[] = [];
  let carried = state;
  for (const [i, batch] of batches.entries()) {
    const weight = counts[i] / total;
    const resets = hasResets(batch, carried === undefined);
    const before = carried ?? model.initialState(batch.batch);
    try {
      const result = runBatch(model, parameters, batch, before, { ...options, weight, resets });
      if (weight > 0) parts.push(result.loss.readNative().then(([loss]) => weight * loss));
      result.loss.dispose();
      // A copy, because what a tape made requires gradients, and backpropagation ends between batches.
      carried = carryState ? (result.state.fork() as S) : undefined;
      result.state.dispose();
    } finally {
      before.dispose();
    }
  }
  return { loss: sumOf(parts), state: carried };
}

/** Compiles the kernels of {@link addGradients} side by side, before the first call needs them. Gradients are zero before and after. */
export async function compileGradients<S extends ModelState>(
  model: LanguageModel<S>,
  parameters: readonly Parameter[],
  batch: Batch,
  options: GradientOptions,
): Promise<void> {
  const key = `train ${batch.batch} ${batch.length} ${JSON.stringify({ ...options, lossScale: undefined })}`;
  const hasRun = await compileOnce(model.backend, model, key, () => {
    const before = model.initialState(batch.batch);
    const { state } = runBatch(model, parameters, batch, before, { ...options, weight: 1, resets: false });
    state.dispose();
    before.dispose();
  });
  if (hasRun) for (const parameter of parameters) parameter.clearGrad();
}

async function sumOf(parts: readonly Promise<number>[]): Promise<number> {
  return (await Promise.all(parts)).reduce((sum, part) => sum + part, 0);
}

function runBatch<S extends ModelState>(
  model: LanguageModel<S>,
  parameters: readonly Parameter[],
  { tokens, targets, documentStarts, batch, length }: Batch,
  before: S,
  options: GradientOptions & { weight: number; resets: boolean },
): { loss: Tensor; state: S } {
  const { weight, resets, carryState, ignoreIndex, checkpointBlocks = false, lossScale } = options;
  return scope(() => {
    const upload = (data: Int32Array | Uint8Array): Tensor => tensorFrom(model.backend, data, [batch, length], "i32");
    const starts = resets ? upload(documentStarts) : undefined;
    const tape = new Tape(parameters);
    const how = { documentStarts: starts, ignoreIndex, checkpointBlocks, finalState: carryState };
    const { loss, objective, state } = tape.record(() => lossOf(model, upload(tokens), upload(targets), before, how));
    if (weight > 0) tape.backward(objective ?? loss, lossScale ? scaled(lossScale, weight) : weight);
    return { loss, state };
  });
}

function scaled(x: Tensor, factor: number): Tensor {
  const result = copyOf(x);
  scaleInPlace(result, factor);
  return result;
}

/** Whether a state is reset anywhere; a fresh one needs no reset before its first token. */
function hasResets({ documentStarts, length }: Batch, isFresh: boolean): boolean {
  return documentStarts.some((start, i) => start === 1 && !(isFresh && i % length === 0));
}
