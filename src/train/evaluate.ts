// How well a model predicts a text: nats per prediction, perplexity, and bits per byte of the text.
import { ConfigError, DataError } from "../core/errors.ts";
import { BYTES_PER_ELEMENT } from "../core/dtype.ts";
import { sizeOf } from "../core/shape.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensorFrom } from "../tensor/tensor.ts";
import { pause } from "../core/pause.ts";
import { lossOf } from "./loss.ts";

/** How a text is cut and scored. */
export interface EvaluateOptions {
  /** Bytes of the text (UTF-8) that the tokens came from, all of them. */
  readonly bytes: number;
  /** Tokens of a window, each scored from a fresh state; 2 or more. Without it the text is one sequence. */
  readonly window?: number | undefined;
  /** Score the text as one sequence in spite of `window`. Default false. */
  readonly carryState?: boolean | undefined;
  /**
   * Windows side by side. Default: as many as keep the logits of one call below 64 MB and its positions below 4096; on a
   * GPU, more positions the narrower the model is, up to 65,536.
   */
  readonly batch?: number | undefined;
  /** Ends the evaluation with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: EvaluateProgress) => void) | undefined;
  /**
   * Called with the losses of each call, in nats: `length` predictions of each of some windows, behind each other, which
   * have `start` predictions of their window before them.
   */
  readonly onLosses?: ((losses: ArrayLike<number>, start: number, length: number) => void) | undefined;
}

/** How far an evaluation is. */
export interface EvaluateProgress {
  readonly predictions: number;
  /** Predictions in all. */
  readonly total: number;
  /** Nats per prediction so far. */
  readonly nll: number;
}

/** How well a model predicts a text. */
export interface Evaluation {
  /** Tokens of the text. */
  readonly tokens: number;
  /** Tokens that were predicted. */
  readonly predictions: number;
  /** Negative log-likelihood, in nats, mean over the predictions. */
  readonly nll: number;
  /** exp(nll). */
  readonly perplexity: number;
  /** nll · predictions / ln 2 / (bytes · predictions / tokens): bits for the predicted share of the text's bytes. */
  readonly bitsPerByte: number;
}

const LOGIT_BYTES = 64 * 2 ** 20;
/** Positions of one call; activations of a narrow vocabulary would outgrow the logits beyond this. */
const MOST_POSITIONS = 4096;
/**
 * A GPU wants more: this over the root of the parameters, to which the width is in proportion. At 1 million parameters it
 * is the limit, and at 270 million MOST_POSITIONS.
 */
const GPU_POSITIONS = { share: 2 ** 26, most: 2 ** 16 } as const;
const CHUNK = 1024;

/** The text as `count` sequences of `length` tokens from its start; the rest is not scored. */
export interface EvaluationPlan {
  readonly count: number;
  readonly length: number;
  /** Sequences side by side, and positions of each in one call. */
  readonly batch: number;
  readonly chunk: number;
}

/**
 * Scores a text. With `window` N: non-overlapping windows of N tokens, each from a fresh state and scored on its N - 1
 * predictions; a last partial window is dropped. Without it, or with `carryState`: the whole text as one sequence,
 * N - 1 predictions. Either way in chunks with a carried state, so that memory does not grow with window or text, and
 * sums are in float64.
 *
 * bitsPerByte holds the text's bytes against its predictions: of `tokens` tokens only `predictions` were scored, so the
 * bytes are scaled by predictions / tokens (exact for bytes as tokens; otherwise it takes the dropped tokens to be as
 * long as the others). It equals nll / ln 2 · tokens / bytes.
 * @throws DataError (fewer tokens than a window, token ids out of range, a model that answers NaN), ConfigError
 */
export async function evaluate<S extends ModelState>(
  model: LanguageModel<S>,
  tokens: ArrayLike<number>,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const plan = planEvaluation(tokens.length, positionsOf(model), options);
  const total = plan.count * (plan.length - 1);
  let predictions = 0;
  let sum = 0;
  for (let first = 0; first < plan.count; first += plan.batch) {
    const batch = Math.min(plan.batch, plan.count - first);
    let state = model.initialState(batch);
    try {
      for (let start = 0; start < plan.length - 1; start += plan.chunk) {
        const length = Math.min(plan.chunk, plan.length - 1 - start);
        const cut = (shift: number): Int32Array => cutTokens(tokens, plan, first, batch, start + shift, length);
        const scored = scoreChunk(model, state, cut(0), cut(1), [batch, length]);
        if (scored.state !== state) state.dispose();
        state = scored.state;
        const losses = await scored.losses.readNative();
        for (const loss of losses) sum += loss;
        options.onLosses?.(losses, start, length);
        scored.losses.dispose();
        predictions += batch * length;
        options.onProgress?.({ predictions, total, nll: sum / predictions });
        await pause();
        options.signal?.throwIfAborted();
      }
    } finally {
      state.dispose();
    }
  }
  const nll = sum / predictions;
  if (!Number.isFinite(nll))
    throw new DataError(
      `evaluate: the model's loss is ${nll}. Its weights are damaged, or its training diverged; load another checkpoint.`,
    );
  const bitsPerByte = ((nll / Math.LN2) * tokens.length) / options.bytes;
  return { tokens: tokens.length, predictions, nll, perplexity: Math.exp(nll), bitsPerByte };
}

/** Positions of one call that a model and its device have room for. */
export function positionsOf<S extends ModelState>(model: LanguageModel<S>): number {
  const fit = Math.max(1, Math.floor(LOGIT_BYTES / (BYTES_PER_ELEMENT.f32 * model.config.vocabSize)));
  // A loss of its own holds no logits to speak of, where the device has its own memory.
  if (model.backend.name !== "webgpu" || !model.loss) return Math.min(MOST_POSITIONS, fit);
  const parameters = [...model.namedParameters().values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const narrow = Math.floor(GPU_POSITIONS.share / Math.sqrt(Math.max(1, parameters)));
  return Math.min(GPU_POSITIONS.most, Math.max(MOST_POSITIONS, narrow));
}

/**
 * How a text of so many tokens is cut, where one call has room for so many positions. Throws ConfigError, DataError (see
 * {@link evaluate}).
 */
export function planEvaluation(tokens: number, positions: number, options: EvaluateOptions): EvaluationPlan {
  const { bytes, window, carryState = false } = options;
  if (!(bytes > 0 && bytes < Infinity))
    throw new ConfigError(`evaluate: bytes must be a positive number, got ${bytes}.`);
  if (window !== undefined && !(Number.isSafeInteger(window) && window >= 2))
    throw new ConfigError(`evaluate: window must be a whole number of tokens, 2 or more, got ${window}.`);
  if (options.batch !== undefined && !(Number.isSafeInteger(options.batch) && options.batch >= 1))
    throw new ConfigError(`evaluate: batch must be a whole number, 1 or more, got ${options.batch}.`);
  const length = window === undefined || carryState ? tokens : window;
  if (tokens < length || length < 2)
    throw new DataError(
      `evaluate: the text must have at least ${Math.max(2, length)} tokens, got ${tokens}. ${length > 2 ? "Give a longer text or a shorter window." : "Give a longer text."}`,
    );
  const count = Math.floor(tokens / length);
  const wanted = options.batch ?? Math.floor(positions / Math.min(length - 1, CHUNK));
  const batch = Math.max(1, Math.min(count, positions, wanted));
  return { count, length, batch, chunk: Math.min(length - 1, CHUNK, Math.max(1, Math.floor(positions / batch))) };
}

/** Tokens [start, start + length) of each of `batch` sequences, from sequence `first` on. */
function cutTokens(
  tokens: ArrayLike<number>,
  plan: EvaluationPlan,
  first: number,
  batch: number,
  start: number,
  length: number,
): Int32Array {
  const cut = new Int32Array(batch * length);
  for (let row = 0; row < batch; row++) {
    const from = (first + row) * plan.length + start;
    for (let i = 0; i < length; i++) cut[row * length + i] = tokens[from + i];
  }
  return cut;
}

function scoreChunk<S extends ModelState>(
  model: LanguageModel<S>,
  state: S,
  inputs: Int32Array,
  targets: Int32Array,
  shape: readonly [number, number],
): { losses: Tensor; state: S } {
  return scope(() => {
    const upload = (data: Int32Array): Tensor => tensorFrom(model.backend, data, shape, "i32");
    const result = lossOf(model, upload(inputs), upload(targets), state, { inPlace: true });
    return { losses: result.losses, state: result.state };
  });
}
