// How fast a model learns against the length of its sequences: steps on random tokens, as many a step at each length.
import type { Batch, BatchSource } from "../data/index.ts";
import type { AnyModel } from "../models/auto.ts";
import type { ModelState } from "../nn/language-model.ts";
import type { LengthPoint } from "../report/schema.ts";
import { train } from "../train/index.ts";
import type { Context } from "./context.ts";
import { lengthsBetween, newModel } from "./context.ts";
import type { PlannedModel } from "./plan.ts";
import { byLength, randomTokens } from "./speed.ts";
import { recipe } from "./training.ts";

const SHORTEST = 2 ** 7;
/** Longer than so many times the training length a step says nothing new. */
const MOST_STRETCH = 32;
const SECONDS = 2;
const MOST_STEPS = 10;
/** Too small to change a weight much: what is measured is time. */
const RATE = 1e-7;

/** Seconds and memory of a step with `batch` x `length` tokens of the recipe, cut into sequences of each length. */
export async function measureTrainingSpeed(context: Context, planned: PlannedModel): Promise<LengthPoint[]> {
  const { how, backend } = context;
  const tokens = how.batch * how.length;
  const most = Math.min(how.maxLength.speed, MOST_STRETCH * how.length);
  return byLength(context, lengthsBetween(Math.min(SHORTEST, most), most), (length) => async (signal) => {
    const model = newModel(context, planned);
    try {
      const before = backend.memory().liveBytes;
      backend.resetPeak();
      const batch = Math.max(1, Math.round(tokens / length));
      const source = randomBatches(context, batch, length);
      const seconds = await secondsOfStep(context, { planned, model, source, signal });
      const memoryBytes = Math.max(0, backend.memory().peakBytes - before);
      return { seconds, tokensPerSecond: (batch * length) / seconds, memoryBytes };
    } finally {
      model.dispose();
    }
  });
}

interface Steps {
  readonly planned: PlannedModel;
  readonly model: AnyModel;
  readonly source: BatchSource;
  readonly signal: AbortSignal;
}

/** The mean of some steps, after one that compiles and makes what later ones find. */
async function secondsOfStep({ how }: Context, { planned, model, source, signal }: Steps): Promise<number> {
  const run = async (steps: number): Promise<number> => {
    const started = performance.now();
    const few = recipe(how, { ...planned, steps, learningRate: RATE });
    await train<ModelState>({ ...few, warmupSteps: 0, model, data: source, signal });
    signal.throwIfAborted();
    return (performance.now() - started) / 1000;
  };
  await run(1);
  const once = await run(1);
  if (once > SECONDS / 2) return once;
  const steps = Math.max(2, Math.min(MOST_STEPS, Math.floor(SECONDS / once)));
  return (await run(steps)) / steps;
}

/** The same random batch for ever. */
function randomBatches(context: Context, batch: number, length: number): BatchSource {
  const tokens = randomTokens(context, batch * length + 1);
  const documentStarts = new Uint8Array(batch * length);
  for (let row = 0; row < batch; row++) documentStarts[row * length] = 1;
  const next: Batch = { tokens: tokens.slice(0, -1), targets: tokens.slice(1), documentStarts, batch, length };
  return {
    description: "random tokens",
    next: () => next,
    position: { kind: "random", source: "random tokens", random: [] },
  };
}
