// Learning rates by trials: short trainings from the same weights on the same tokens, scored on what was held out.
// Node only.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { DataError } from "../core/errors.ts";
import { bestTrial, trialText } from "../report/tuning.ts";
import type { TuningTrial } from "../report/schema.ts";
import type { Context } from "./context.ts";
import { savedModel } from "./context.ts";
import type { PlannedModel } from "./plan.ts";
import { withTokens } from "./plan.ts";
import { meanLoss, measureQuality } from "./quality.ts";
import { trainModel } from "./training.ts";

/** Tokens of each held-out text, or of a task's examples, that score a trial. */
const EVAL_TOKENS = 2 ** 16;
/** Examples of tasks that score a trial: others than those of training, of its checks, and of the measurements. */
const TASK_SEED = 5_000_011;
const WHAT = { text: "held-out loss, nats per token", task: "loss on fresh examples, nats per token" } as const;

/** How often a best rate at the edge of those tried adds another one beyond it. */
const MOST_EXTENSIONS = 2;
const EXTENSION = 2;
/** Of a trial's time, about, that its score takes. */
const SCORE_SHARE = 0.05;

export interface TuningWork {
  /** For the checkpoint of a trial under way. */
  readonly folder: string;
  /** Trials that were done before. */
  readonly done: readonly TuningTrial[];
  /** Told after each trial. */
  readonly keep: (trials: readonly TuningTrial[]) => Promise<void>;
}

/**
 * Trains and scores the model at each rate; of the trials, by rate, the one of the lowest score has the rate to train
 * with. Undefined when the signal ended it: trials that are done were kept, and one under way left a checkpoint.
 * @throws DataError when training diverges at every rate, and what training throws of anything else
 */
export async function tuneRate(
  context: Context,
  planned: PlannedModel,
  { folder, done, keep }: TuningWork,
): Promise<readonly TuningTrial[] | undefined> {
  const factors = context.how.tune?.factors ?? [1];
  let trials = [...done];
  for (;;) {
    const learningRate = nextRate(planned.learningRate, factors, trials);
    if (learningRate === undefined) break;
    const total = Math.max(factors.length, trials.length + 1);
    const tell: Context["tell"] = (share, note = "") =>
      context.tell(
        (trials.length + share) / total,
        [`learning rate ${learningRate}`, note].filter(Boolean).join(" · "),
      );
    const trial = await tryRate({ ...context, tell }, { ...planned, learningRate }, join(folder, String(learningRate)));
    if (!trial) return undefined;
    context.line(`${planned.name}: learning rate ${trialText(trial)}`);
    trials = [...trials, trial];
    await keep(trials);
  }
  await rm(folder, { recursive: true, force: true });
  if (!bestTrial(trials)) {
    // When the comparison is resumed it is tried again, as all that failed.
    await keep([]);
    throw new DataError(
      `compare: training ${planned.name} fails at each of the learning rates ${trials.map((trial) => trial.learningRate).join(", ")}. Try lower factors (--tune-factors) or give a rate (--lr). The last of them: ${trials.at(-1)?.stopped}`,
    );
  }
  return trials.toSorted((a, b) => a.learningRate - b.learningRate);
}

/**
 * The rate of the next trial: the default times each of the factors in turn; then, while the best is the lowest or the
 * highest, one beyond it, twice at the most. Undefined when all is tried.
 */
export function nextRate(base: number, factors: readonly number[], trials: readonly TuningTrial[]): number | undefined {
  const tried = trials.map(({ learningRate }) => learningRate);
  const asked = factors.map((factor) => rounded(base * factor));
  const missing = asked.find((rate) => !tried.includes(rate));
  if (missing !== undefined || trials.length - new Set(asked).size >= MOST_EXTENSIONS) return missing;
  const [lowest, highest] = [Math.min(...tried), Math.max(...tried)];
  // Where all of them diverge, a lower one may not.
  const best = bestTrial(trials)?.learningRate ?? lowest;
  if (best === lowest) return rounded(best / EXTENSION);
  return best === highest ? rounded(best * EXTENSION) : undefined;
}

function rounded(rate: number): number {
  return Number(rate.toPrecision(3));
}

/** Undefined when the signal ended it. */
async function tryRate(context: Context, whole: PlannedModel, folder: string): Promise<TuningTrial | undefined> {
  const { data, how, signal, tell } = context;
  const { learningRate } = whole;
  const share = how.tune?.share ?? 1;
  const planned = withTokens(whole, whole.tokens * share, how);
  // The schedule is that of a whole training; steps of warm-up that were asked for are those of the real one.
  const warmup = how.warmup === undefined ? undefined : Math.round(how.warmup * share);
  const trial: Context = {
    ...context,
    how: { ...how, warmup },
    tell: (done, note) => tell(done * (1 - SCORE_SHARE), note),
  };
  const found = { learningRate, what: WHAT[data.kind] };
  try {
    if (!(await trainModel(trial, planned, folder))) return undefined;
    const score = await scoreOf(trial, planned, join(folder, "last"));
    await rm(folder, { recursive: true, force: true });
    if (Number.isFinite(score)) return { ...found, score };
    return { ...found, stopped: `the loss on what was held out is ${score}` };
  } catch (error) {
    if (signal?.aborted || !(error instanceof DataError)) throw error;
    await rm(folder, { recursive: true, force: true });
    return { ...found, stopped: error.message };
  }
}

async function scoreOf(context: Context, planned: PlannedModel, folder: string): Promise<number> {
  const { how } = context;
  const model = await savedModel(context, planned, folder);
  try {
    const evalTokens = Math.min(how.evalTokens, EVAL_TOKENS);
    const scored = { ...how, evalTokens, seed: how.seed + TASK_SEED };
    const quality = await measureQuality({ ...context, how: scored, tell: () => undefined }, model, false);
    return meanLoss(quality.evaluations);
  } finally {
    model.dispose();
  }
}
