// Endless sources of training batches whose position can be saved and restored bit for bit.

import { ConfigError, DataError, UsageError } from "../core/errors.ts";
import { createRandom } from "../core/random.ts";
import type { TokenData } from "./token-data.ts";

export type { TokenData } from "./token-data.ts";

/** The target that a loss leaves out. */
export const IGNORED = -100;

/** Inputs and what follows them. */
export interface Batch {
  /** [batch, length] input tokens. */
  readonly tokens: Int32Array;
  /** [batch, length] the token after each input; -100 where that is the first of another document, which nothing predicts. */
  readonly targets: Int32Array;
  /** [batch, length] 1 where the state must be reset before this token, else 0. */
  readonly documentStarts: Uint8Array;
  readonly batch: number;
  readonly length: number;
}

/** Where a source stands; plain JSON. */
export type BatchPosition =
  | { readonly kind: "random"; readonly source: string; readonly random: readonly number[] }
  | { readonly kind: "streams"; readonly source: string; readonly step: number }
  | { readonly kind: "task"; readonly source: string; readonly length: number; readonly random: readonly number[] };

/** An endless source of batches. */
export interface BatchSource {
  next(): Batch;
  /** A copy of where it stands: the same function with `position` continues with the batch that `next` would give. */
  readonly position: BatchPosition;
  /** For people: what is read and how. */
  readonly description: string;
}

/** Rows of a batch and tokens of a row, both integers >= 1. */
export interface BatchShape {
  readonly batch: number;
  readonly length: number;
}

/**
 * Windows of `length` tokens from uniformly random places; each begins from a fresh state and may cross into other documents.
 * @throws DataError when data holds fewer than length + 1 tokens; ConfigError for a position of another source.
 */
export function randomWindows(
  data: TokenData,
  o: BatchShape & { readonly seed: number; readonly position?: BatchPosition | undefined },
): BatchSource {
  const { batch, length } = o;
  checkShape(data, "randomWindows", o, length + 1, "shorter windows (length)");
  const source = sourceName(data, o);
  const position = checkPosition(o.position, "random", source);
  const random = createRandom(position?.random ?? o.seed);
  const isStart = markStarts(data);
  return {
    description: `${batch} random windows of ${length} tokens out of ${data.tokens.length}`,
    next(): Batch {
      const result = emptyBatch(o);
      for (let row = 0; row < batch; row++)
        fillRow(result, row, data, isStart, random.integer(data.tokens.length - length), true);
      return result;
    },
    get position(): BatchPosition {
      return { kind: "random", source, random: random.state };
    },
  };
}

/**
 * `batch` streams, each reading its own part of the data in order, so that the state after a batch is exactly the state before
 * the next. A part is a whole number of windows; what is left over (less than batch * length + 1 tokens) is not read. At the end
 * all streams begin again; `documentStarts` marks it, as it marks every document.
 * @throws DataError when data holds fewer than batch * length + 1 tokens; ConfigError for a position of another source.
 */
export function streams(
  data: TokenData,
  o: BatchShape & { readonly position?: BatchPosition | undefined },
): BatchSource {
  const { batch, length } = o;
  checkShape(data, "streams", o, batch * length + 1, "fewer streams (batch) or shorter windows (length)");
  const source = sourceName(data, o);
  const isStart = markStarts(data);
  const steps = Math.floor((data.tokens.length - 1) / (batch * length));
  const part = steps * length;
  let step = checkPosition(o.position, "streams", source)?.step ?? 0;
  if (!Number.isSafeInteger(step) || step < 0) {
    throw new ConfigError(`streams: a saved position must have a step >= 0, got ${step}. Start the run anew.`);
  }
  return {
    description: `${batch} streams of ${part} tokens in windows of ${length}, ${steps} batches a pass`,
    next(): Batch {
      const offset = (step % steps) * length;
      const result = emptyBatch(o);
      for (let row = 0; row < batch; row++) fillRow(result, row, data, isStart, row * part + offset, offset === 0);
      step += 1;
      return result;
    },
    get position(): BatchPosition {
      return { kind: "streams", source, step };
    },
  };
}

/**
 * Non-overlapping windows of `length` tokens, each scored from a fresh state on its length - 1 predictions; a last partial
 * window is dropped. Gives `batch` windows at a time (the last time perhaps fewer), of `length - 1` inputs and targets.
 * @param documentStarts If given, resets the state at documents and leaves out predictions across them; else only windows count.
 * @throws UsageError when length < 2; DataError when there are fewer than `length` tokens.
 */
export function* evaluationWindows(
  tokens: ArrayLike<number>,
  length: number,
  { batch = 1, documentStarts }: { readonly batch?: number; readonly documentStarts?: Int32Array | undefined } = {},
): Generator<Batch, void, undefined> {
  checkCount("evaluationWindows", "length", length, 2);
  checkCount("evaluationWindows", "batch", batch, 1);
  const windows = Math.floor(tokens.length / length);
  if (windows === 0) {
    throw new DataError(
      `evaluationWindows: there must be at least ${length} tokens for one window, got ${tokens.length}. Take more text or a shorter window.`,
    );
  }
  const data = { tokens, documentStarts: documentStarts ?? Int32Array.of(0) };
  const isStart = markStarts(data);
  for (let first = 0; first < windows; first += batch) {
    const result = emptyBatch({ batch: Math.min(batch, windows - first), length: length - 1 });
    for (let row = 0; row < result.batch; row++) fillRow(result, row, data, isStart, (first + row) * length, true);
    yield result;
  }
}

type TokensAndStarts = { readonly tokens: ArrayLike<number>; readonly documentStarts: Int32Array };

function emptyBatch({ batch, length }: BatchShape): { -readonly [K in keyof Batch]: Batch[K] } {
  const size = batch * length;
  return {
    tokens: new Int32Array(size),
    targets: new Int32Array(size),
    documentStarts: new Uint8Array(size),
    batch,
    length,
  };
}

function fillRow(
  result: Batch,
  row: number,
  data: TokensAndStarts,
  isStart: Uint8Array,
  from: number,
  isFresh: boolean,
): void {
  const { length } = result;
  const to = row * length;
  for (let i = 0; i < length; i++) {
    const at = from + i;
    result.tokens[to + i] = data.tokens[at]!;
    result.targets[to + i] = hasBit(isStart, at + 1) ? IGNORED : data.tokens[at + 1];
    result.documentStarts[to + i] = hasBit(isStart, at) || (i === 0 && isFresh) ? 1 : 0;
  }
}

/** One bit a token: whether a document begins there. */
function markStarts({ tokens, documentStarts }: TokensAndStarts): Uint8Array {
  const bits = new Uint8Array((tokens.length >> 3) + 1);
  for (const start of documentStarts) bits[start >> 3] |= 1 << (start & 7);
  return bits;
}

function hasBit(bits: Uint8Array, at: number): boolean {
  return ((bits[at >> 3] >> (at & 7)) & 1) === 1;
}

function checkCount(where: string, name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new UsageError(`${where}: ${name} must be an integer >= ${least}, got ${value}. Choose a whole number.`);
}

function checkShape(
  data: TokenData,
  where: string,
  { batch, length }: BatchShape,
  least: number,
  remedy: string,
): void {
  checkCount(where, "batch", batch, 1);
  checkCount(where, "length", length, 1);
  if (data.tokens.length >= least) return;
  throw new DataError(
    `${where}: batch ${batch} and length ${length} need at least ${least} tokens, got ${data.tokens.length}. Take more text, or ${remedy}.`,
  );
}

function checkPosition<K extends BatchPosition["kind"]>(
  position: BatchPosition | undefined,
  kind: K,
  source: string,
): Extract<BatchPosition, { kind: K }> | undefined {
  if (position === undefined) return undefined;
  if (position.kind === kind && position.source === source) return position as Extract<BatchPosition, { kind: K }>;
  throw new ConfigError(
    `data: a saved position must be of the same data, batch and length (${kind} ${source}), got ${position.kind} ${position.source}. Resume with the same data and options, or start anew.`,
  );
}

/** Names data and shape, so that a position is not used for others: sizes and a 32-bit FNV-1a hash of tokens and boundaries. */
function sourceName({ tokens, documentStarts }: TokenData, { batch, length }: BatchShape): string {
  let hash = 0x811c9dc5;
  for (const list of [tokens, documentStarts]) {
    for (let i = 0; i < list.length; i++) hash = Math.imul(hash ^ list[i], 0x01000193);
  }
  return `${tokens.length}:${documentStarts.length}:${(hash >>> 0).toString(16)}:${batch}x${length}`;
}
