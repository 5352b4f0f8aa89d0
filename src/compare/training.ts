// The training of one model: the same batches as all others, a curve, a checkpoint that resumes.
import type { BatchSource } from "../data/index.ts";
import { openSource } from "../io/index.ts";
import type { AnyModel } from "../models/auto.ts";
import { loadModelWeights, saveModel } from "../models/auto.ts";
import type { ModelState } from "../nn/language-model.ts";
import type { CurvePoint, TrainingReport } from "../report/schema.ts";
import { evaluate, evaluateTask, train } from "../train/index.ts";
import type { TrainOptions, TrainProgress } from "../train/index.ts";
import type { Context } from "./context.ts";
import { newModel } from "./context.ts";
import type { Progress } from "./curve-node.ts";
import { readProgress, writeProgress } from "./curve-node.ts";
import type { PlannedModel, Resolved } from "./plan.ts";

/** Points of the curve, and those of them where held-out data are scored. */
const POINTS = 50;
const SCORED = 5;
const TASK_EXAMPLES = 128;
const CURVE_TOKENS = { host: 2 ** 15, gpu: 2 ** 17 } as const;
const MOST_WARMUP = 200;
/** Examples of checks are of other seeds than those of training: this one and the step's number. */
const CHECK_SEED = 1_000_003;

/**
 * Trains a model, or goes on with its run in `folder`; last/ then holds its weights. Undefined when the signal ended it.
 * @throws what train throws
 */
export async function trainModel(
  context: Context,
  planned: PlannedModel,
  folder: string,
): Promise<TrainingReport | undefined> {
  await compileTraining(context, planned);
  const model = newModel(context, planned);
  try {
    return await new Lesson(context, planned, { model, folder }).run();
  } finally {
    model.dispose();
  }
}

/** What all models have in common; `learningRate` and `steps` are the model's. */
export function recipe(
  how: Resolved,
  { steps, learningRate }: PlannedModel,
): Omit<TrainOptions<ModelState>, "model" | "data"> {
  const { schedule, weightDecay, clip, precision, checkpointBlocks } = how;
  const warmupSteps = Math.min(steps, how.warmup ?? Math.min(MOST_WARMUP, Math.floor(steps / 10)));
  return { steps, learningRate, schedule, warmupSteps, weightDecay, clip, precision, checkpointBlocks };
}

/**
 * Tokens a second of training, after a first step that compiles.
 * @throws what train throws
 */
export async function trainingRate(context: Context, planned: PlannedModel, seconds: number): Promise<number> {
  const model = newModel(context, planned);
  try {
    const { batch, sequence } = context.how;
    const first = await timeSteps(context, planned, model, 1);
    const again = first < seconds ? await timeSteps(context, planned, model, 1) : first;
    const steps = Math.max(1, Math.min(20, Math.floor(seconds / again)));
    const taken = steps > 1 ? await timeSteps(context, planned, model, steps) : again;
    return (steps * batch * sequence) / taken;
  } finally {
    model.dispose();
  }
}

/** Where kernels are compiled at their first use, that is no part of training: two steps of a model that is thrown away. */
async function compileTraining(context: Context, planned: PlannedModel): Promise<void> {
  if (!context.backend.compileAhead) return;
  const model = newModel(context, planned);
  try {
    await timeSteps(context, planned, model, 2);
  } finally {
    model.dispose();
  }
}

async function timeSteps(context: Context, planned: PlannedModel, model: AnyModel, steps: number): Promise<number> {
  const { how, data, signal } = context;
  const started = performance.now();
  const source = data.open(how);
  await train<ModelState>({ ...recipe(how, { ...planned, steps }), model, data: source, signal });
  return (performance.now() - started) / 1000;
}

/** Training under way. */
class Lesson {
  readonly #context: Context;
  readonly #planned: PlannedModel;
  readonly #model: AnyModel;
  readonly #folder: string;
  readonly #scoreEvery: number;
  #progress: Progress = { step: 0, seconds: 0, peakMemoryBytes: 0, losses: 0, steps: 0, points: [] };
  /** Since when the clock of training runs. */
  #since: number | undefined;
  #toldAt = 0;

  constructor(context: Context, planned: PlannedModel, { model, folder }: { model: AnyModel; folder: string }) {
    this.#context = context;
    this.#planned = planned;
    this.#model = model;
    this.#folder = folder;
    this.#scoreEvery = SCORED * this.#every;
  }

  get #every(): number {
    return Math.max(1, Math.ceil(this.#planned.steps / POINTS));
  }

  async run(): Promise<TrainingReport | undefined> {
    const { backend, data, how, signal } = this.#context;
    const { architecture, sizes } = this.#planned;
    const before = await readProgress(this.#folder);
    if (before) this.#progress = before;
    backend.resetPeak();
    const result = await train<ModelState>({
      ...recipe(how, this.#planned),
      model: this.#model,
      data: (position) => this.#clocked(data.open(how, position)),
      checkEvery: this.#every,
      check: async (step) => {
        await this.#check(step);
        return "go on";
      },
      saveEvery: this.#scoreEvery,
      logEvery: this.#every,
      outputDir: this.#folder,
      saveModel: (folder) =>
        saveModel(this.#model, folder, data.kind === "text" ? { files: data.tokenizer.files() } : {}),
      resume: before !== undefined,
      loadModel: async (folder) => loadModelWeights(this.#model, await openSource(folder)),
      settings: { architecture, sizes, seed: how.seed, batch: how.batch, length: how.length },
      signal,
      onProgress: (progress) => this.#tell(progress),
    });
    if (result.stopped) {
      this.#stopClock();
      // A run that is resumed does not look back at the step where it stopped.
      if (result.step % this.#every === 0 && this.#progress.steps > 0) await this.#check(result.step);
      else await writeProgress(this.#folder, { ...this.#progress, step: result.step });
      return undefined;
    }
    return this.#report(result.step);
  }

  #report(steps: number): TrainingReport {
    const { how } = this.#context;
    const { points, seconds, peakMemoryBytes } = this.#progress;
    const tokens = steps * how.batch * how.sequence;
    const rest = { seconds, tokensPerSecond: tokens / seconds, peakMemoryBytes, curve: points };
    return { length: how.length, batch: how.batch, steps, tokens, ...rest };
  }

  /** The same batches; the clock runs from the first that is asked for after a pause. */
  #clocked(source: BatchSource): BatchSource {
    return {
      description: source.description,
      next: () => {
        this.#since ??= performance.now();
        return source.next();
      },
      get position() {
        return source.position;
      },
    };
  }

  #stopClock(): void {
    if (this.#since === undefined) return;
    const seconds = this.#progress.seconds + Math.max(0, this.#toldAt - this.#since) / 1000;
    const { peakBytes } = this.#context.backend.memory();
    const peakMemoryBytes = Math.max(this.#progress.peakMemoryBytes, peakBytes);
    this.#progress = { ...this.#progress, seconds, peakMemoryBytes };
    this.#since = undefined;
  }

  /** A point of the curve. */
  async #check(step: number): Promise<void> {
    this.#stopClock();
    const { batch, sequence } = this.#context.how;
    const { losses, steps, seconds, points } = this.#progress;
    const scores = step % this.#scoreEvery === 0 || step === this.#planned.steps ? await this.#score(step) : {};
    const lossNats = steps > 0 ? { lossNats: losses / steps } : {};
    const point: CurvePoint = { step, tokens: step * batch * sequence, seconds, ...lossNats, ...scores };
    this.#progress = { ...this.#progress, step, losses: 0, steps: 0, points: [...points, point] };
    await writeProgress(this.#folder, this.#progress);
    this.#context.backend.resetPeak();
  }

  /** Without the signal: it is short, and a point that is cut short would be missing when the run goes on. */
  async #score(step: number): Promise<Partial<CurvePoint>> {
    const { data, how, backend } = this.#context;
    if (data.kind === "task") {
      const seed = how.seed + CHECK_SEED * (1 + step);
      const asked = { length: how.length, examples: TASK_EXAMPLES, seed };
      return { evalAccuracy: (await evaluateTask<ModelState>(this.#model, data.task, asked)).tokenAccuracy };
    }
    const { tokens } = data.heldOut[0].data;
    const window = Math.min(how.length + 1, tokens.length);
    const budget = Math.max(window, Math.ceil(this.#planned.tokens / 30));
    const most = Math.min(how.evalTokens, budget, CURVE_TOKENS[backend.name === "webgpu" ? "gpu" : "host"]);
    const part = tokens.subarray(0, Math.max(window, most));
    const { nll } = await evaluate<ModelState>(this.#model, part, { bytes: part.length, window });
    return { evalLossNats: nll };
  }

  #tell(progress: TrainProgress): void {
    this.#toldAt = performance.now();
    const { losses, steps } = this.#progress;
    this.#progress = { ...this.#progress, losses: losses + progress.loss, steps: steps + 1 };
    const { step, loss, tokensPerSecond } = progress;
    const rate = Math.round(tokensPerSecond).toLocaleString("en-US");
    this.#context.tell(
      step / this.#planned.steps,
      `step ${step}/${progress.steps} · loss ${loss.toFixed(4)} · ${rate} tokens/s`,
    );
  }
}
