// How often a model answers a synthetic task rightly, at any length: in chunks with a carried state.
import { BYTES_PER_ELEMENT } from "../core/dtype.ts";
import { BackendError, ConfigError, MambaError } from "../core/errors.ts";
import { pause } from "../core/pause.ts";
import { createRandom } from "../core/random.ts";
import type { Batch, SyntheticTask } from "../data/index.ts";
import { IGNORED, taskBatch } from "../data/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import { compileOnce } from "../tensor/compile-ahead.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensorFrom } from "../tensor/tensor.ts";

export interface TaskEvaluationOptions {
  /** As the task counts it. */
  readonly length: number;
  readonly examples: number;
  /** Of the examples. Default 0. */
  readonly seed?: number | undefined;
  /** Examples side by side. Default: as many as fill a call; one at a time where a sequence is long. */
  readonly batch?: number | undefined;
  /** Tokens of an example in one call; the state is carried from call to call. Default: as many as fill a call. */
  readonly chunk?: number | undefined;
  /** Ends the evaluation with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TaskEvaluationProgress) => void) | undefined;
}

export interface TaskEvaluationProgress {
  /** Tokens read, of all examples. */
  readonly tokens: number;
  readonly total: number;
  readonly examples: number;
}

/** How well a model does a task at one length. */
export interface TaskAccuracy {
  readonly length: number;
  readonly examples: number;
  /** Answers asked for, in all examples. */
  readonly answers: number;
  /** Share of the answers that are right: the most likely token is the one asked for. */
  readonly tokenAccuracy: number;
  /** Share of the examples of which every answer is right. */
  readonly sequenceAccuracy: number;
  /** Nats per answer. */
  readonly loss: number;
  readonly seconds: number;
}

/** Positions of one call, and memory of its logits, on the host's processor and on a GPU. */
const MOST_POSITIONS = { host: 4096, gpu: 2 ** 16 } as const;
const LOGIT_BYTES = 64 * 2 ** 20;

/**
 * Answers fresh examples of a task and counts what is right. Sequences are read in chunks with a carried state, so memory
 * does not grow with the length but by what the model's own state takes; logits of all positions are computed only for
 * chunks in which answers are asked for. Equal seeds give equal examples, however they are cut.
 * @throws ConfigError (options, lengths); what the model throws, with the task and the length before the message
 */
export async function evaluateTask<S extends ModelState>(
  model: LanguageModel<S>,
  task: SyntheticTask,
  options: TaskEvaluationOptions,
): Promise<TaskAccuracy> {
  const plan = planTask(model, task, options);
  const { length, examples, seed = 0 } = options;
  const random = createRandom(seed);
  const started = performance.now();
  const score = new Score();
  let read = 0;
  for (let first = 0; first < examples; first += plan.batch) {
    const batch = taskBatch(task, random, { batch: Math.min(plan.batch, examples - first), length });
    try {
      await answerBatch(model, batch, plan.chunk, score, async (tokens) => {
        read += tokens;
        options.onProgress?.({ tokens: read, total: examples * batch.length, examples });
        await pause();
        options.signal?.throwIfAborted();
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw atLength(error, task.name, length);
    }
  }
  return { length, examples, ...score.result(examples), seconds: (performance.now() - started) / 1000 };
}

interface TaskPlan {
  readonly batch: number;
  readonly chunk: number;
}

function planTask<S extends ModelState>(
  model: LanguageModel<S>,
  task: SyntheticTask,
  options: TaskEvaluationOptions,
): TaskPlan {
  for (const name of ["examples", "batch", "chunk"] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1))
      throw new ConfigError(`evaluateTask: ${name} must be a whole number, 1 or more, got ${value}.`);
  }
  task.checkLength(options.length);
  if (task.vocabSize > model.config.vocabSize)
    throw new ConfigError(
      `evaluateTask: ${task.name} has a vocabulary of ${task.vocabSize}, and the model knows ${model.config.vocabSize} tokens. Make the model for the task.`,
    );
  const size = task.sequenceLength(options.length);
  const fit = Math.floor(LOGIT_BYTES / (BYTES_PER_ELEMENT.f32 * model.config.vocabSize));
  const most = MOST_POSITIONS[model.backend.name === "webgpu" ? "gpu" : "host"];
  const positions = Math.max(1, Math.min(most, fit));
  const batch = Math.min(options.examples, options.batch ?? Math.max(1, Math.floor(positions / size)));
  const chunk = Math.min(size, options.chunk ?? Math.max(1, Math.floor(positions / batch)));
  return { batch, chunk };
}

/** Reads the examples of a batch, up to their last answer, and counts. `onRead` is told of the tokens that were read. */
async function answerBatch<S extends ModelState>(
  model: LanguageModel<S>,
  all: Batch,
  chunk: number,
  score: Score,
  onRead: (tokens: number) => Promise<void>,
): Promise<void> {
  const { batch } = all;
  const end = answersEnd(all.targets, all.length);
  const areRight: boolean[] = Array.from({ length: batch }, () => true);
  let state = model.initialState(batch);
  try {
    state.reserve?.(end);
    for (let start = 0; start < end; start += chunk) {
      const width = Math.min(chunk, end - start);
      const tokens = cutColumns(all.tokens, all, start, width);
      const targets = cutColumns(all.targets, all, start, width);
      const begin = answersBegin(targets, width);
      const logits = begin < width - 1 ? "all" : "last";
      const call = { tokens, shape: [batch, width], logits, finalState: start + width < end } as const;
      await compileChunk(model, call);
      const result = readChunk(model, state, call);
      if (result.state !== state) state.dispose();
      state = result.state;
      const values = begin < width ? result.logits.read() : undefined;
      result.logits.dispose();
      if (values) score.add(await values, logits === "all" ? targets : lastColumn(targets, width), areRight);
      await onRead(batch * width);
    }
  } finally {
    state.dispose();
  }
  score.addExamples(areRight);
}

/** One call of the model. */
interface ChunkCall {
  readonly tokens: Int32Array;
  readonly shape: readonly [batch: number, width: number];
  readonly logits: "all" | "last";
  readonly finalState: boolean;
}

function readChunk<S extends ModelState>(
  model: LanguageModel<S>,
  state: S,
  { tokens, shape, logits, finalState }: ChunkCall,
): { logits: Tensor; state: S } {
  return scope(() => {
    const ids = tensorFrom(model.backend, tokens, shape, "i32");
    const result = model.forward(ids, state, { logits, finalState, inPlace: true, checked: false });
    return { logits: result.logits, state: result.state };
  });
}

async function compileChunk<S extends ModelState>(model: LanguageModel<S>, call: ChunkCall): Promise<void> {
  const { shape, logits, finalState } = call;
  await compileOnce(model.backend, model, `answers ${shape.join()} ${logits} ${finalState}`, () => {
    const before = model.initialState(shape[0]);
    const { state } = readChunk(model, before, call);
    if (state !== before) state.dispose();
    before.dispose();
  });
}

/** What was right, of all answers so far. */
class Score {
  #answers = 0;
  #right = 0;
  #rightExamples = 0;
  #nats = 0;

  /** Answers to `targets`, examples behind each other, from their logits. `areRight` loses the examples with a wrong one. */
  add(logits: Float32Array, targets: Int32Array, areRight: boolean[]): void {
    const vocab = logits.length / targets.length;
    const width = targets.length / areRight.length;
    for (const [i, target] of targets.entries()) {
      if (target === IGNORED) continue;
      const row = logits.subarray(i * vocab, (i + 1) * vocab);
      const best = row.reduce((largest, logit) => Math.max(largest, logit), -Infinity);
      const isRight = row.indexOf(best) === target;
      this.#answers += 1;
      this.#right += Number(isRight);
      this.#nats += best + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - best), 0)) - row[target];
      if (!isRight) areRight[Math.floor(i / width)] = false;
    }
  }

  addExamples(areRight: readonly boolean[]): void {
    this.#rightExamples += areRight.filter(Boolean).length;
  }

  result(examples: number): Pick<TaskAccuracy, "answers" | "tokenAccuracy" | "sequenceAccuracy" | "loss"> {
    return {
      answers: this.#answers,
      tokenAccuracy: this.#right / this.#answers,
      sequenceAccuracy: this.#rightExamples / examples,
      loss: this.#nats / this.#answers,
    };
  }
}

/** Columns [start, start + width) of all rows. */
function cutColumns(values: Int32Array, { batch, length }: Batch, start: number, width: number): Int32Array {
  const cut = new Int32Array(batch * width);
  for (let row = 0; row < batch; row++)
    cut.set(values.subarray(row * length + start, row * length + start + width), row * width);
  return cut;
}

function lastColumn(targets: Int32Array, width: number): Int32Array {
  return targets.filter((_, i) => i % width === width - 1);
}

/** The first column with an answer in any row; `width` without one. */
function answersBegin(targets: Int32Array, width: number): number {
  let begin = width;
  for (let from = 0; from < targets.length; from += width) {
    const first = targets.subarray(from, from + width).findIndex((target) => target !== IGNORED);
    if (first >= 0) begin = Math.min(begin, first);
  }
  return begin;
}

/** One beyond the last column with an answer in any row. */
function answersEnd(targets: Int32Array, width: number): number {
  let end = 0;
  for (let from = 0; from < targets.length; from += width) {
    let last = width;
    while (last > end && targets[from + last - 1] === IGNORED) last--;
    end = Math.max(end, last);
  }
  return end;
}

/** The same error with the place before its message; what the host says of full memory becomes a BackendError. */
function atLength(error: unknown, task: string, length: number): unknown {
  const where = `evaluateTask: ${task} at length ${length}`;
  if (error instanceof RangeError)
    return new BackendError(`${where}: ${error.message}. Take fewer examples side by side.`, { cause: error });
  if (!(error instanceof MambaError)) return error;
  const Kind = error.constructor as new (message: string, options: ErrorOptions) => MambaError;
  return new Kind(`${where}: ${error.message}`, { cause: error });
}
