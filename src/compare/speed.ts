// How fast a model reads, writes and learns, and with how much memory, against lengths and numbers of sequences.
import type { Backend } from "../backends/backend.ts";
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import { createRandom } from "../core/random.ts";
import { GpuDecoder } from "../generate/gpu-decoder.ts";
import { samplingSettings } from "../generate/sampling.ts";
import { DecodeSession } from "../generate/session.ts";
import type { AnyModel } from "../models/auto.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { BatchPoint, LengthPoint } from "../report/schema.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensorFrom } from "../tensor/tensor.ts";
import type { Context } from "./context.ts";
import { lengthsBetween, limitOf } from "./context.ts";
import { isStopped, withinLimit } from "./limit.ts";

const SHORTEST = 2 ** 7;
/** A point is measured again until so much time is spent, or so often. */
const SPENT_SECONDS = 1;
const MOST_RUNS = 5;
/** Prompt before sequences are decoded side by side. */
const BATCH_PROMPT = 2048;
/** Tokens of decoding: to warm up, and at the most. They are multiples of what a GPU is given at once. */
const WARM_TOKENS = 32;
const MOST_TOKENS = 288;
/** Tokens that a decoder is asked for; the last ones are never waited for. */
const DECODED_TOKENS = MOST_TOKENS + 2 * WARM_TOKENS;
const DECODE_SECONDS = 0.5;
/** Where even a few tokens take longer than this, they are enough. */
const SLOW_SECONDS = 5;

/** Seconds to read a prompt at once, batch 1: a run to warm up, then the median of some. */
export async function measurePrefill(context: Context, model: AnyModel): Promise<LengthPoint[]> {
  const { how, backend } = context;
  return byLength(context, lengthsBetween(Math.min(SHORTEST, how.maxLength.speed), how.maxLength.speed), (length) => {
    const ids = randomTokens(context, length);
    const read = async (signal: AbortSignal): Promise<void> => {
      const session = new DecodeSession<ModelState>(model, model.initialState(1));
      try {
        await session.prefill(ids, { signal });
      } finally {
        session.dispose();
      }
    };
    return async (signal) => {
      const start = (): number => {
        backend.resetPeak();
        return backend.memory().liveBytes;
      };
      let before = start();
      let seconds = await secondsOf(() => read(signal));
      // Where nothing is compiled, a long first run is as good as any.
      if (backend.compileAhead || seconds < SLOW_SECONDS) {
        before = start();
        seconds = await medianSeconds(() => read(signal));
      }
      const memoryBytes = Math.max(0, backend.memory().peakBytes - before);
      return { seconds, tokensPerSecond: length / seconds, memoryBytes };
    };
  });
}

/** Tokens a second after so many tokens of context, batch 1. */
export async function measureDecode(context: Context, model: AnyModel): Promise<LengthPoint[]> {
  const { maxLength } = context.how;
  return byLength(
    context,
    lengthsBetween(Math.min(SHORTEST, maxLength.speed), maxLength.speed),
    (length) => async (signal) => {
      const before = context.backend.memory().liveBytes;
      const prompt = await readPrompt(context, model, length, signal);
      try {
        const { tokensPerSecond, memoryBytes } = await decodeSideBySide(model, prompt, { batch: 1, signal, before });
        return { seconds: 1 / tokensPerSecond, tokensPerSecond, memoryBytes };
      } finally {
        prompt.state.dispose();
      }
    },
  );
}

/** Tokens a second of many sequences together, behind one prompt. */
export async function measureBatch(context: Context, model: AnyModel): Promise<BatchPoint[]> {
  const { how, backend, signal, tell } = context;
  const length = Math.min(BATCH_PROMPT, how.maxLength.speed);
  const before = backend.memory().liveBytes;
  const prompt = await withinLimit(limitOf(context), (limit) => readPrompt(context, model, length, limit));
  if (isStopped(prompt)) return [{ batch: 1, ...prompt }];
  const points: BatchPoint[] = [];
  const batches = lengthsBetween(1, how.maxBatch);
  try {
    for (const [i, batch] of batches.entries()) {
      tell(i / batches.length, `${batch} sequences`);
      signal?.throwIfAborted();
      const point = await withinLimit(limitOf(context), (limit) =>
        decodeSideBySide(model, prompt, { batch, signal: limit, before }),
      );
      points.push({ batch, ...point });
      await giveBack(backend);
      if (isStopped(point)) break;
    }
  } finally {
    prompt.state.dispose();
  }
  return points;
}

/** Measures lengths in turn, until one cannot be measured: it says why, and ends the list. */
export async function byLength(
  context: Context,
  lengths: readonly number[],
  measure: (length: number) => (signal: AbortSignal) => Promise<Omit<LengthPoint, "length">>,
): Promise<LengthPoint[]> {
  const points: LengthPoint[] = [];
  for (const [i, length] of lengths.entries()) {
    context.tell(i / lengths.length, `${length} tokens`);
    const point = await withinLimit(limitOf(context), measure(length));
    points.push({ length, ...point });
    await giveBack(context.backend);
    if (isStopped(point)) break;
  }
  return points;
}

/** A GPU's kept buffers go back, and it is waited for until they have: what comes next may need all of its memory. */
async function giveBack(backend: Backend): Promise<void> {
  if (backend.name !== "webgpu") return;
  (backend as WebGpuBackend).trim();
  await (backend as WebGpuBackend).finish();
}

/** Ids of the model's vocabulary, the same for all models. */
export function randomTokens({ data, how }: Context, count: number): Int32Array {
  const random = createRandom(how.seed);
  const vocabSize = data.kind === "text" ? data.tokenizer.vocabSize : data.vocabSize;
  return Int32Array.from({ length: count }, () => random.integer(vocabSize));
}

/** A sequence that was read: its state, and logits for the next token. */
interface Prompt {
  readonly state: ModelState;
  readonly logits: Float32Array;
}

async function readPrompt(
  context: Context,
  model: LanguageModel,
  length: number,
  signal: AbortSignal,
): Promise<Prompt> {
  const session = new DecodeSession(model, model.initialState(1));
  try {
    const logits = (await session.prefill(randomTokens(context, length), { signal })).slice();
    return { state: session.release(), logits };
  } finally {
    session.dispose();
  }
}

interface Decoding {
  readonly batch: number;
  readonly signal: AbortSignal;
  /** Bytes of the device that live without states. */
  readonly before: number;
}

async function decodeSideBySide(
  model: LanguageModel,
  { state, logits }: Prompt,
  { batch, signal, before }: Decoding,
): Promise<{ tokensPerSecond: number; memoryBytes: number }> {
  const { backend } = model;
  backend.resetPeak();
  const kept = backend.memory().liveBytes;
  // Room for what follows is made once, before there are many: caches that grow take twice the memory for a while.
  state.reserve?.(DECODED_TOKENS);
  const copies = state.select(Array.from({ length: batch }, () => 0));
  const rate = backend.name === "webgpu" ? gpuRate : hostRate;
  const tokensPerStep = await rate(model, copies, logits, signal);
  // The prompt's own state lies beside its copies, and is no part of what they take.
  const memoryBytes = Math.max(0, backend.memory().peakBytes - Math.max(before, kept));
  return { tokensPerSecond: tokensPerStep * batch, memoryBytes };
}

/** Steps a second, the logits of each read. Takes the state over. */
async function hostRate(
  model: LanguageModel,
  state: ModelState,
  _: Float32Array,
  signal: AbortSignal,
): Promise<number> {
  const session = new DecodeSession(model, state);
  const tokens = new Int32Array(state.batch).fill(1 % model.config.vocabSize);
  try {
    // The first step records, the second runs what was recorded.
    for (let i = 0; i < 2; i++) await session.step(tokens);
    const started = performance.now();
    for (let steps = 1; ; steps++) {
      await session.step(tokens);
      const seconds = (performance.now() - started) / 1000;
      if (seconds > DECODE_SECONDS || steps >= MOST_TOKENS) return steps / seconds;
      signal.throwIfAborted();
    }
  } finally {
    session.dispose();
  }
}

/**
 * Steps a second where tokens are chosen on the GPU, which runs ahead of the host. Times are taken at the first token of
 * a round of its ring: what was sent together arrives together, and a round begins what is sent.
 */
async function gpuRate(
  model: LanguageModel,
  state: ModelState,
  logits: Float32Array,
  signal: AbortSignal,
): Promise<number> {
  const { batch } = state;
  const keys = Array.from({ length: batch }, (_, i) => i);
  const decoder = new GpuDecoder(model, {
    state,
    logits: repeated(model, logits, state),
    rows: keys.map((seed) => ({ seed, prompt: new Int32Array(0) })),
    settings: { ...samplingSettings({ temperature: 0 }) },
    limit: DECODED_TOKENS,
    keepsStates: false,
  });
  try {
    let started = 0;
    const begun = performance.now();
    for (let token = 0; ; token++) {
      await decoder.next(keys);
      signal.throwIfAborted();
      const now = performance.now();
      if (token === WARM_TOKENS) started = now;
      if (token <= WARM_TOKENS) {
        if (token > 1 && (now - begun) / 1000 > SLOW_SECONDS) return token / ((now - begun) / 1000);
        continue;
      }
      const seconds = (now - started) / 1000;
      const isRound = token % WARM_TOKENS === 0;
      const isEnough = seconds > DECODE_SECONDS || token >= MOST_TOKENS;
      if ((isRound && isEnough) || seconds > SLOW_SECONDS) return (token - WARM_TOKENS) / seconds;
    }
  } finally {
    decoder.dispose();
    await (model.backend as WebGpuBackend).finish();
  }
}

/** Logits `[batch, 1, vocabSize]`, the same for each row. A state that they find no memory beside is given back. */
function repeated(model: LanguageModel, logits: Float32Array, state: ModelState): Tensor {
  const { batch } = state;
  const all = new Float32Array(batch * logits.length);
  for (let row = 0; row < batch; row++) all.set(logits, row * logits.length);
  try {
    return tensorFrom(model.backend, all, [batch, 1, logits.length]);
  } catch (error) {
    state.dispose();
    throw error;
  }
}

async function secondsOf(run: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await run();
  return (performance.now() - started) / 1000;
}

async function medianSeconds(run: () => Promise<void>): Promise<number> {
  const times: number[] = [];
  let spent = 0;
  while (times.length === 0 || (spent < SPENT_SECONDS && times.length < MOST_RUNS)) {
    times.push(await secondsOf(run));
    spent += times[times.length - 1];
  }
  times.sort((a, b) => a - b);
  const middle = times.length >> 1;
  return times.length % 2 === 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
}
