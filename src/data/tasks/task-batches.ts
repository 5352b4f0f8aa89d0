// Fresh examples of a task for ever, as batches for training, with a position that can be saved.
import { ConfigError } from "../../core/errors.ts";
import { createRandom } from "../../core/random.ts";
import type { Batch, BatchPosition, BatchSource } from "../batches.ts";
import { IGNORED } from "../batches.ts";
import type { SyntheticTask } from "./task.ts";

/** A source of a task's batches. Its length may be set between batches: a curriculum. */
export interface TaskBatches extends BatchSource {
  /** Of the next batches; part of the position. Setting it throws ConfigError for a length that the task does not have. */
  length: number;
}

export interface TaskBatchesOptions {
  /** Examples side by side. */
  readonly batch: number;
  /** As the task counts it; see SyntheticTask.sequenceLength. */
  readonly length: number;
  readonly seed: number;
  /** Continues there, at the length it had. */
  readonly position?: BatchPosition | undefined;
}

/**
 * Batches of independent examples, each from a fresh state.
 * @throws ConfigError for a batch or length out of range, and for a position of another source
 */
export function taskBatches(task: SyntheticTask, options: TaskBatchesOptions): TaskBatches {
  const { batch, position } = options;
  if (!(Number.isSafeInteger(batch) && batch >= 1))
    throw new ConfigError(`taskBatches: batch must be a whole number, 1 or more, got ${batch}.`);
  const source = `${task.name} ${JSON.stringify(task.options)} batch ${batch}`;
  const saved = checkPosition(position, source);
  let length = saved?.length ?? options.length;
  task.checkLength(length);
  const random = createRandom(saved?.random ?? options.seed);
  return {
    description: `fresh examples of ${source}`,
    next: () => taskBatch(task, random, { batch, length }),
    get position(): BatchPosition {
      return { kind: "task", source, length, random: random.state };
    },
    get length(): number {
      return length;
    },
    set length(next: number) {
      task.checkLength(next);
      length = next;
    },
  };
}

/** The next examples of a random stream, side by side. The length is known to be one of the task's. */
export function taskBatch(
  task: SyntheticTask,
  random: ReturnType<typeof createRandom>,
  { batch, length }: { readonly batch: number; readonly length: number },
): Batch {
  const size = task.sequenceLength(length);
  const tokens = new Int32Array(batch * size);
  const targets = new Int32Array(batch * size).fill(IGNORED);
  const documentStarts = new Uint8Array(batch * size);
  for (let row = 0; row < batch; row++) {
    const [from, to] = [row * size, (row + 1) * size];
    task.write(random, length, tokens.subarray(from, to), targets.subarray(from, to));
    documentStarts[from] = 1;
  }
  return { tokens, targets, documentStarts, batch, length: size };
}

type TaskPosition = Extract<BatchPosition, { kind: "task" }>;

function checkPosition(position: BatchPosition | undefined, source: string): TaskPosition | undefined {
  if (position === undefined) return undefined;
  if (position.kind === "task" && position.source === source) return position;
  throw new ConfigError(
    `taskBatches: a saved position must be of the same task, options and batch (${source}), got ${position.kind} ${position.source}. Resume with the same options, or start anew.`,
  );
}
