// Generation: prompts in, text out, token by token, for one prompt or many, without a limit on the length.
import { ConfigError, DataError } from "../core/errors.ts";
import { createPacer } from "../core/pause.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { Detokenizer, Tokenizer } from "../tokenizers/tokenizer.ts";
import type { Sampler, SamplingOptions } from "./sampling.ts";
import { createSampler } from "./sampling.ts";
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

/** One prompt on its way. */
interface Row {
  readonly index: number;
  readonly sampler: Sampler;
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
  const { maxTokens = 256, signal } = options;
  if (!(maxTokens >= 0) || (Number.isFinite(maxTokens) && !Number.isInteger(maxTokens)))
    throw new ConfigError(`generate: maxTokens must be a whole number from 0 on, or Infinity, got ${maxTokens}.`);
  if (prompts.length === 0) throw new DataError("generate: no prompt was given.");
  if ((options.state || options.onState) && prompts.length > 1)
    throw new ConfigError(`generate: a state belongs to one prompt, and ${prompts.length} were given.`);
  const started = performance.now();
  const { rows, session, logits: first } = await prefillAll(model, tokenizer, prompts, options);
  const prefillMs = performance.now() - started;
  let active = session;
  let alive = rows;
  let logits = first;
  let consumed = 0;
  const breathe = createPacer();
  try {
    for (let count = 1; count <= maxTokens && !signal?.aborted; count++) {
      const vocabSize = logits.length / alive.length;
      for (const [i, row] of alive.entries()) {
        const emitted = advance(
          row,
          logits.subarray(i * vocabSize, (i + 1) * vocabSize),
          tokenizer,
          options,
          count === maxTokens,
        );
        if (!emitted) continue;
        options.onToken?.(emitted);
        yield emitted;
      }
      const going = alive.flatMap((row, i) => (row.stopReason ? [] : [i]));
      if (going.length === 0) break;
      if (going.length < alive.length) {
        const next = new DecodeSession(model, active.state.select(going) as State);
        active.dispose();
        active = next;
        alive = going.map((i) => alive[i]);
      }
      logits = await active.step(lastTokens(alive));
      consumed = count;
      await breathe();
    }
    if (options.onState) {
      if (alive[0].tokens.length > consumed) await active.step(lastTokens(alive));
      await options.onState(active.state);
    }
  } finally {
    active.dispose();
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

/** Each prompt goes through alone, since they differ in length; then their states become one batch. */
async function prefillAll<State extends ModelState>(
  model: LanguageModel<State>,
  tokenizer: Tokenizer,
  prompts: readonly (string | ArrayLike<number>)[],
  options: GenerateOptions<State>,
): Promise<{ rows: Row[]; session: DecodeSession<State>; logits: Float32Array }> {
  const rows: Row[] = [];
  const sessions: DecodeSession<State>[] = [];
  const parts: Float32Array[] = [];
  try {
    for (const [index, prompt] of prompts.entries()) {
      const ids = typeof prompt === "string" ? tokenizer.encode(prompt) : Int32Array.from(prompt);
      if (ids.length === 0) throw new DataError(`generate: prompt ${index} is empty. Give at least one character.`);
      const session = new DecodeSession(model, (options.state?.fork() as State | undefined) ?? model.initialState(1));
      sessions.push(session);
      parts.push(await session.prefill(ids, { signal: options.signal }));
      const sampler = createSampler({
        ...options,
        seed: (options.seed ?? 0) + index,
        vocabSize: Math.min(tokenizer.vocabSize, model.config.vocabSize),
      });
      for (const id of ids) sampler.observe(id);
      rows.push({
        index,
        sampler,
        detokenizer: tokenizer.createDetokenizer(),
        matcher: new StopMatcher(options.stop ?? []),
        promptTokens: ids.length,
        tokens: [],
        text: "",
        stopReason: undefined,
      });
    }
  } catch (error) {
    sessions.forEach((session) => session.dispose());
    throw error;
  }
  if (sessions.length === 1) return { rows, session: sessions[0], logits: parts[0] };
  const state = model.stackStates(sessions.map((session) => session.state));
  sessions.forEach((session) => session.dispose());
  const logits = new Float32Array(parts.length * parts[0].length);
  parts.forEach((part, i) => logits.set(part, i * part.length));
  return { rows, session: new DecodeSession(model, state), logits };
}

function lastTokens(rows: readonly Row[]): Int32Array {
  return Int32Array.from(rows, (row) => row.tokens.at(-1)!);
}

/** Draws a row's next token; undefined when that token is an end, and no text was held back before it. */
function advance(
  row: Row,
  logits: Float32Array,
  tokenizer: Tokenizer,
  options: GenerateOptions,
  isLast: boolean,
): GeneratedToken | undefined {
  const token = row.sampler.sample(logits);
  row.sampler.observe(token);
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
