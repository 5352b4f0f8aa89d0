// How well a trained model predicts what was held out: by text, by the place in the context, and at other lengths.
import type { AnyModel } from "../models/auto.ts";
import type { ModelState } from "../nn/language-model.ts";
import type { Evaluation, ExtrapolationPoint, PositionPoint, QualityReport } from "../report/schema.ts";
import { evaluate, evaluateTask } from "../train/index.ts";
import type { Context } from "./context.ts";
import { lengthsBetween, limitOf } from "./context.ts";
import type { HeldOutText, TaskData, TextData } from "./data.ts";
import { isStopped, withinLimit } from "./limit.ts";

/** Of the examples of tasks: others than those of training and of its checks. */
const TASK_SEED = 7_000_003;
const TASK_EXAMPLES = 1024;
const FEWEST_EXAMPLES = 16;
/** Positions are looked at up to so many times the training length. */
const POSITION_STRETCH = 8;
/** Windows that a mean over positions needs to say anything. */
const FEWEST_WINDOWS = 4;

/**
 * Every held-out text in windows of the training length, each from a fresh state; or the task at its length.
 * @param hasPositions whether losses by the place in the context are wanted, too
 */
export async function measureQuality(context: Context, model: AnyModel, hasPositions: boolean): Promise<QualityReport> {
  const { data, how } = context;
  if (data.kind === "task") {
    const found = await answer(context, model, data, how.length);
    const { tokenAccuracy: accuracy, loss: lossNats, answers: tokens } = found;
    return { evaluations: [{ name: `length ${how.length}`, tokens, lossNats, accuracy }] };
  }
  const evaluations: Evaluation[] = [];
  for (const [i, text] of data.heldOut.entries())
    evaluations.push(await score(context, model, text, (share) => (i + share) / (data.heldOut.length + 1)));
  if (!hasPositions) return { evaluations };
  const positions = await withinLimit(limitOf(context), (signal) => byPosition(context, model, data, signal));
  if (isStopped(positions)) context.line(`loss by position: ${positions.stopped}`);
  return isStopped(positions) || positions.length === 0 ? { evaluations } : { evaluations, lossByPosition: positions };
}

/** Nats per token over all tokens of all held-out texts. */
export function meanLoss(evaluations: readonly Evaluation[]): number {
  const tokens = evaluations.reduce((sum, one) => sum + (one.tokens ?? 1), 0);
  return evaluations.reduce((sum, one) => sum + (one.lossNats ?? 0) * (one.tokens ?? 1), 0) / tokens;
}

async function score(
  { how, signal, tell }: Context,
  model: AnyModel,
  { name, data }: HeldOutText,
  shareOf: (share: number) => number,
): Promise<Evaluation> {
  const window = Math.min(how.length + 1, data.tokens.length);
  const tokens = data.tokens.subarray(0, Math.max(window, Math.min(how.evalTokens, data.tokens.length)));
  const bytes = (data.bytes * tokens.length) / data.tokens.length;
  const found = await evaluate<ModelState>(model, tokens, {
    bytes,
    window,
    signal,
    onProgress: ({ predictions, total }) => tell(shareOf(predictions / total), name),
  });
  const { predictions, nll: lossNats, bitsPerByte, perplexity } = found;
  return { name, tokens: predictions, lossNats, bitsPerByte, perplexity };
}

/** Mean losses by the number of tokens before, in bins that grow: 1, 2, 3-4, 5-6, 7-9 ... */
async function byPosition(
  { how }: Context,
  model: AnyModel,
  data: TextData,
  signal: AbortSignal,
): Promise<PositionPoint[]> {
  const { tokens } = longest(data);
  const most = Math.min(tokens.length, how.evalTokens);
  const window = Math.min(POSITION_STRETCH * how.length, Math.floor(most / FEWEST_WINDOWS));
  if (window < 2) return [];
  const sums = new Float64Array(window - 1);
  const counts = new Float64Array(window - 1);
  await evaluate<ModelState>(model, tokens.subarray(0, most), {
    bytes: most,
    window,
    signal,
    onLosses: (losses, start, length) => {
      for (let i = 0; i < losses.length; i++) {
        sums[start + (i % length)] += losses[i];
        counts[start + (i % length)] += 1;
      }
    },
  });
  const points: PositionPoint[] = [];
  for (let from = 0; from < sums.length;) {
    const to = Math.min(sums.length, Math.max(from + 1, Math.round((from + 1) * Math.SQRT2) - 1));
    const total = (values: Float64Array): number => values.subarray(from, to).reduce((sum, value) => sum + value, 0);
    // The prediction of index i has i + 1 tokens before it.
    points.push({ position: (from + 1 + to) / 2, lossNats: total(sums) / total(counts) });
    from = to;
  }
  return points;
}

/**
 * The same text in windows of the training length, and of two, four ... times as much, each from a fresh state; or the
 * task at such lengths. The first length that cannot be measured ends it.
 */
export async function measureExtrapolation(context: Context, model: AnyModel): Promise<ExtrapolationPoint[]> {
  const { data, how, tell } = context;
  const longestLength = Math.max(how.length, how.maxLength.extrapolation);
  const lengths =
    data.kind === "task" ? taskLengths(data, how.length, longestLength) : lengthsBetween(how.length, longestLength);
  const points: ExtrapolationPoint[] = [];
  for (const [i, length] of lengths.entries()) {
    tell(i / lengths.length, `length ${length}`);
    const found = await withinLimit(limitOf(context), (signal) =>
      data.kind === "task"
        ? answer({ ...context, signal, tell: () => undefined }, model, data, length).then(
            ({ tokenAccuracy: accuracy, loss: lossNats }) => ({ accuracy, lossNats }),
          )
        : scoreAt(context, model, data, { length, signal }),
    );
    points.push({ length, ...found });
    if (isStopped(found)) break;
  }
  return points;
}

async function scoreAt(
  { how }: Context,
  model: AnyModel,
  data: TextData,
  { length, signal }: { length: number; signal: AbortSignal },
): Promise<{ lossNats: number } | { stopped: string }> {
  const { tokens } = longest(data);
  if (length + 1 > tokens.length) return { stopped: `the longest held-out text has ${tokens.length} tokens` };
  const part = tokens.subarray(0, Math.max(length + 1, Math.min(tokens.length, how.evalTokens)));
  const { nll } = await evaluate<ModelState>(model, part, { bytes: part.length, window: length + 1, signal });
  return { lossNats: nll };
}

function longest({ heldOut }: TextData): HeldOutText["data"] {
  return heldOut.reduce((a, b) => (b.data.tokens.length > a.data.tokens.length ? b : a)).data;
}

/** The task's own lengths for tests and doublings of the training length, those that it has. */
function taskLengths({ task }: TaskData, length: number, most: number): number[] {
  const all = new Set([...task.testLengths(length), ...lengthsBetween(length, most)]);
  return [...all].filter((one) => one <= most && isLength(task, one)).sort((a, b) => a - b);
}

function isLength(task: TaskData["task"], length: number): boolean {
  try {
    task.checkLength(length);
    return true;
  } catch {
    return false;
  }
}

function answer(
  { how, signal, tell }: Context,
  model: AnyModel,
  { task }: TaskData,
  length: number,
): ReturnType<typeof evaluateTask> {
  const fit = Math.floor(how.evalTokens / task.sequenceLength(length));
  return evaluateTask<ModelState>(model, task, {
    length,
    examples: Math.max(FEWEST_EXAMPLES, Math.min(TASK_EXAMPLES, fit)),
    seed: how.seed + TASK_SEED,
    signal,
    onProgress: ({ tokens, total }) => tell(tokens / total),
  });
}
