// Generation: prompts in, text out, token by token, for one prompt or many, without a limit on the length.
import { ConfigError, DataError } from "../core/errors.ts";
import { createPacer } from "../core/pause.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { Detokenizer, Tokenizer } from "../tokenizers/tokenizer.ts";
import { keep } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { copyInto, emptyTensor } from "../tensor/tensor.ts";
import { GpuDecoder } from "./gpu-decoder.ts";
import { HostDecoder } from "./host-decoder.ts";
import type { SamplingOptions } from "./sampling.ts";
import { createSampler, samplingSettings } from "./sampling.ts";
import { DecodeSession } from "./session.ts";
import { StopMatcher } from "./stop.ts";

/** How to generate: limits, stops and a state, beside how to choose each token ({@link SamplingOptions}). */
export interface GenerateOptions<State extends ModelState = ModelState> extends SamplingOptions {
  /** New tokens at most; default 256. Infinity is allowed: memory does not grow. */
  maxTokens?: number;
  /** Texts at which to stop; they are not part of the result. */
  stop?: readonly string[];
  /** Token ids at which to stop, beside the tokenizer's end of text. */
  stopTokens?: readonly number[];
  /** Whether the tokenizer's end of text stops; default true. */
  stopAtEndOfText?: boolean;
  /** Continue from this state (it stays as it is) instead of from nothing. One prompt only. */
  state?: State | undefined;
  /** Stops at the next token; what there is by then is the result, with stopReason "aborted". */
  signal?: AbortSignal | undefined;
  /** Called with every token as it comes. */
  onToken?(token: GeneratedToken): void;
  /** Called once, with the state after all tokens of the result, before its memory is given back: save or fork it. */
  onState?(state: State): void | Promise<void>;
}

/** One token as it comes. */
export interface GeneratedToken {
  /** Which prompt it belongs to. */
  readonly index: number;
  readonly token: number;
  /** Text that became certain with this token; may be empty (half a character, the beginning of a stop text). */
  readonly text: string;
}

/** Why a text ended: maxTokens, a stop text or token, the end of text, or the signal. */
export type StopReason = "length" | "stop" | "endOfText" | "aborted";

/** What one prompt gave. */
export interface GenerationResult {
  /** The new text, without the prompt. */
  readonly text: string;
  readonly promptTokens: number;
  /** Ids of the new tokens. */
  readonly tokens: number[];
  readonly stopReason: StopReason;
  /** Wall time. Prefill ends when the first token's logits are there. */
  readonly timings: {
    readonly prefillMs: number;
    readonly decodeMs: number;
    readonly prefillTokensPerSecond: number;
    readonly decodeTokensPerSecond: number;
  };
}

const DEFAULT_TOKENS = 256;

/** One prompt on its way. */
interface Row {
  readonly index: number;
  readonly detokenizer: Detokenizer;
  readonly matcher: StopMatcher;
  readonly promptTokens: number;
  readonly tokens: number[];
  text: string;
  stopReason: StopReason | undefined;
}

/**
 * Generates from one or more prompts of any lengths. Yields each token as it comes; returns one result a prompt.
 * Every row is bit for bit what it would be alone (row i draws from seed + i).
 * @throws DataError (empty prompt, NaN in the logits), ConfigError (an option out of its range)
 */
export async function* generate<State extends ModelState>(
  model: LanguageModel<State>,
  tokenizer: Tokenizer,
  prompts: readonly (string | ArrayLike<number>)[],
  options: GenerateOptions<State> = {},
): AsyncGenerator<GeneratedToken, GenerationResult[]> {
  const { maxTokens = DEFAULT_TOKENS, signal } = options;
  if (!(maxTokens >= 0) || (Number.isFinite(maxTokens) && !Number.isInteger(maxTokens)))
    throw new ConfigError(`generate: maxTokens must be a whole number from 0 on, or Infinity, got ${maxTokens}.`);
  if (prompts.length === 0) throw new DataError("generate: no prompt was given.");
  if ((options.state || options.onState) && prompts.length > 1)
    throw new ConfigError(`generate: a state belongs to one prompt, and ${prompts.length} were given.`);
  const started = performance.now();
  const { rows, decoder } = await prefillAll(model, tokenizer, prompts, options);
  let prefillMs = performance.now() - started;
  let alive: readonly Row[] = rows;
  const breathe = createPacer();
  try {
    for (let count = 1; count <= maxTokens && !signal?.aborted; count++) {
      const tokens = await decoder.next(alive.map(({ index }) => index));
      if (count === 1) prefillMs = performance.now() - started;
      for (const [i, row] of alive.entries()) {
        const emitted = advance(row, tokens[i], tokenizer, options, count === maxTokens);
        if (!emitted) continue;
        options.onToken?.(emitted);
        yield emitted;
      }
      alive = alive.filter(({ stopReason }) => !stopReason);
      if (alive.length === 0) break;
      await breathe();
    }
    if (options.onState) await options.onState(await decoder.stateAfter(rows[0].tokens));
  } finally {
    decoder.dispose();
  }
  const decodeMs = performance.now() - started - prefillMs;
  return rows.map((row) => resultOf(row, prefillMs, decodeMs, rows, options));
}

/** {@link generate} without the stream. */
export async function complete<State extends ModelState>(
  model: LanguageModel<State>,
  tokenizer: Tokenizer,
  prompts: readonly (string | ArrayLike<number>)[],
  options: GenerateOptions<State> = {},
): Promise<GenerationResult[]> {
  const tokens = generate(model, tokenizer, prompts, options);
  for (;;) {
    const next = await tokens.next();
    if (next.done) return next.value;
  }
}

/** Chooses tokens for the rows of a batch: on the host, or on the GPU that computes the logits. */
interface Decoder<State> {
  next(keys: readonly number[]): Promise<Int32Array>;
  stateAfter(tokens: readonly number[]): State | Promise<State>;
  dispose(): void;
}

/** Each prompt goes through alone, since they differ in length; then their states become one batch. */
async function prefillAll<State extends ModelState>(
  model: LanguageModel<State>,
  tokenizer: Tokenizer,
  prompts: readonly (string | ArrayLike<number>)[],
  options: GenerateOptions<State>,
): Promise<{ rows: Row[]; decoder: Decoder<State> }> {
  const sampling = { ...options, vocabSize: Math.min(tokenizer.vocabSize, model.config.vocabSize) };
  samplingSettings(sampling);
  const ids = prompts.map((prompt) =>
    typeof prompt === "string" ? tokenizer.encode(prompt) : Int32Array.from(prompt),
  );
  const sessions: DecodeSession<State>[] = [];
  const logits: Tensor[] = [];
  try {
    for (const [index, tokens] of ids.entries()) {
      if (tokens.length === 0) throw new DataError(`generate: prompt ${index} is empty. Give at least one character.`);
      const session = new DecodeSession(model, (options.state?.fork() as State | undefined) ?? model.initialState(1));
      sessions.push(session);
      logits.push(await session.prefillOnDevice(tokens, { signal: options.signal }));
    }
    const rows = ids.map((tokens, index) => createRow(index, tokens.length, tokenizer, options));
    return { rows, decoder: await createDecoder(model, { ids, sessions, logits }, sampling) };
  } finally {
    sessions.forEach((session) => session.dispose());
    logits.forEach((each) => each.dispose());
  }
}

function createRow(index: number, promptTokens: number, tokenizer: Tokenizer, { stop = [] }: GenerateOptions): Row {
  return {
    index,
    detokenizer: tokenizer.createDetokenizer(),
    matcher: new StopMatcher(stop),
    promptTokens,
    tokens: [],
    text: "",
    stopReason: undefined,
  };
}

/** What prefill left: of each prompt its ids, a session that consumed them, and logits for the next token. */
interface Prefilled<State extends ModelState> {
  readonly ids: readonly Int32Array[];
  readonly sessions: readonly DecodeSession<State>[];
  readonly logits: readonly Tensor[];
}

/** A decoder for all prompts side by side, with memory of its own. A sampler's saved state only fits the host. */
async function createDecoder<State extends ModelState>(
  model: LanguageModel<State>,
  { ids, sessions, logits }: Prefilled<State>,
  options: GenerateOptions<State>,
): Promise<Decoder<State>> {
  const state = sessions.length === 1 ? sessions[0].release() : model.stackStates(sessions.map((each) => each.state));
  const seedOf = (index: number): number => (options.seed ?? 0) + index;
  if (model.backend.name === "webgpu" && !options.samplerState)
    return new GpuDecoder(model, {
      state,
      logits: stack(logits),
      rows: ids.map((prompt, index) => ({ seed: seedOf(index), prompt })),
      settings: samplingSettings(options),
      limit: options.maxTokens ?? DEFAULT_TOKENS,
      keepsStates: options.onState !== undefined,
    });
  const values = new Float32Array(logits.length * model.config.vocabSize);
  for (const [i, each] of logits.entries())
    await each.read(values.subarray(i * model.config.vocabSize, (i + 1) * model.config.vocabSize));
  const samplers = ids.map((prompt, index) => {
    const sampler = createSampler({ ...options, seed: seedOf(index) });
    for (const id of prompt) sampler.observe(id);
    return sampler;
  });
  return new HostDecoder(model, new DecodeSession(model, state), values, samplers);
}

/** Tensors `[1, 1, columns]` behind each other, in a new one. */
function stack(tensors: readonly Tensor[]): Tensor {
  const [{ backend, columns }] = tensors;
  const all = keep(emptyTensor(backend, [tensors.length, 1, columns]));
  tensors.forEach((tensor, i) => copyInto(tensor, all.entries(i, 1)));
  return all;
}

/** Takes a row's next token; undefined when that token is an end, and no text was held back before it. */
function advance(
  row: Row,
  token: number,
  tokenizer: Tokenizer,
  options: GenerateOptions,
  isLast: boolean,
): GeneratedToken | undefined {
  const isEndOfText = (options.stopAtEndOfText ?? true) && token === tokenizer.endOfText;
  const isEnd = isEndOfText || (options.stopTokens?.includes(token) ?? false);
  let piece = "";
  if (isEnd) row.stopReason = isEndOfText ? "endOfText" : "stop";
  else {
    row.tokens.push(token);
    piece = row.detokenizer.push(token);
    if (isLast) row.stopReason = "length";
  }
  if (row.stopReason) piece += row.detokenizer.flush();
  const { text, isStopped } = row.matcher.push(piece);
  if (isStopped) row.stopReason = "stop";
  const shown = row.stopReason && !isStopped ? text + row.matcher.flush() : text;
  row.text += shown;
  return isEnd && shown === "" ? undefined : { index: row.index, token, text: shown };
}

function resultOf(
  row: Row,
  prefillMs: number,
  decodeMs: number,
  rows: readonly Row[],
  options: GenerateOptions,
): GenerationResult {
  const perSecond = (tokens: number, ms: number): number => (ms > 0 ? (tokens / ms) * 1000 : 0);
  const sum = (count: (row: Row) => number): number => rows.reduce((total, each) => total + count(each), 0);
  return {
    text: row.text,
    promptTokens: row.promptTokens,
    tokens: row.tokens,
    stopReason: row.stopReason ?? (options.signal?.aborted ? "aborted" : "length"),
    timings: {
      prefillMs,
      decodeMs,
      prefillTokensPerSecond: perSecond(
        sum((each) => each.promptTokens),
        prefillMs,
      ),
      decodeTokensPerSecond: perSecond(
        sum((each) => each.tokens.length),
        decodeMs,
      ),
    },
  };
}
