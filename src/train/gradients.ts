// The forward and backward pass of one step: gradients of the mean loss over some batches, and the state after them.
import { DataError } from "../core/errors.ts";
import type { Batch } from "../data/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import { crossEntropy } from "../ops/cross-entropy/index.ts";
import type { Parameter } from "../tensor/parameter.ts";
import { scope } from "../tensor/scope.ts";
import { Tape } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensorFrom } from "../tensor/tensor.ts";

export interface StepLoss<S> {
  /** Nats per target. */
  readonly loss: number;
  /** After the last batch, without gradients; undefined unless the state is carried. The caller's to dispose of. */
  readonly state: S | undefined;
}

export interface GradientOptions {
  /** Whether each batch begins with the state that the one before ended with. */
  readonly carryState: boolean;
  /** Target that is not scored. */
  readonly ignoreIndex: number;
}

/**
 * Adds d(loss)/d(parameter) to every parameter's gradient, where loss is the mean over the scored targets of all batches
 * (so that two batches of 4 are one batch of 8, whatever is ignored in either). Everything else made on the way is freed.
 * @param state before the first batch, undefined for a fresh one; it is consumed
 * @throws DataError when no target is scored
 */
export async function addGradients<S extends ModelState>(
  model: LanguageModel<S>,
  parameters: readonly Parameter[],
  batches: readonly Batch[],
  state: S | undefined,
  { carryState, ignoreIndex }: GradientOptions,
): Promise<StepLoss<S>> {
  const counts = batches.map(({ targets }) => targets.reduce((n, target) => n + (target === ignoreIndex ? 0 : 1), 0));
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0)
    throw new DataError(`train: no target of a step is scored (all are ${ignoreIndex}). Check the data.`);
  let loss = 0;
  let carried = state;
  for (const [i, batch] of batches.entries()) {
    const weight = counts[i] / total;
    const resets = hasResets(batch, carried === undefined);
    const before = carried ?? model.initialState(batch.batch);
    try {
      const result = runBatch(model, parameters, batch, before, { weight, ignoreIndex, resets });
      if (weight > 0) loss += weight * (await result.loss.readNative())[0];
      result.loss.dispose();
      // A copy, because what a tape made requires gradients, and backpropagation ends between batches.
      carried = carryState ? (result.state.fork() as S) : undefined;
      result.state.dispose();
    } finally {
      before.dispose();
    }
  }
  return { loss, state: carried };
}

function runBatch<S extends ModelState>(
  model: LanguageModel<S>,
  parameters: readonly Parameter[],
  { tokens, targets, documentStarts, batch, length }: Batch,
  before: S,
  { weight, ignoreIndex, resets }: { weight: number; ignoreIndex: number; resets: boolean },
): { loss: Tensor; state: S } {
  return scope(() => {
    const upload = (data: Int32Array | Uint8Array): Tensor => tensorFrom(model.backend, data, [batch, length], "i32");
    const starts = resets ? upload(documentStarts) : undefined;
    const tape = new Tape(parameters);
    const result = tape.record(() => {
      const { logits, state } = model.forward(upload(tokens), before, { documentStarts: starts });
      return { loss: crossEntropy({ logits, targets: upload(targets) }, { ignoreIndex }).loss, state };
    });
    if (weight > 0) tape.backward(result.loss, weight);
    return result;
  });
}

/** Whether a state is reset anywhere; a fresh one needs no reset before its first token. */
function hasResets({ documentStarts, length }: Batch, isFresh: boolean): boolean {
  return documentStarts.some((start, i) => start === 1 && !(isFresh && i % length === 0));
}
