// Training on a task: fresh examples, checks on others between the steps, lengths that grow, and an end when it is learned.
import { join } from "node:path";
import type { TaskBatches } from "../../../data/index.ts";
import { taskBatches } from "../../../data/index.ts";
import { openSource } from "../../../io/index.ts";
import type { AnyModel } from "../../../models/auto.ts";
import { loadModelWeights, saveModel } from "../../../models/auto.ts";
import type { ModelState } from "../../../nn/language-model.ts";
import type { TaskAccuracy, TrainProgress } from "../../../train/index.ts";
import { evaluateTask, train } from "../../../train/index.ts";
import { readRunState } from "../../../train/run-folder-node.ts";
import { formatSeconds, significant } from "../../format.ts";
import { log } from "../../output.ts";
import type { Bar } from "../../progress.ts";
import type { CurvePoint, TaskRecord } from "./record.ts";
import type { TaskFlags, TaskPlan, TaskSettings } from "./settings.ts";

/** Examples of checks are of other seeds than those of training: this one and the step's number. */
const CHECK_SEED = 1_000_003;

export interface Learning {
  readonly plan: TaskPlan;
  readonly flags: TaskFlags;
  readonly model: AnyModel;
  readonly bar: Bar;
  readonly signal: AbortSignal;
  /** Called at each check. */
  onCheck(learned: Learned): Promise<void>;
}

/** What training came to so far. */
export type Learned = Pick<TaskRecord, "step" | "tokens" | "seconds" | "learned" | "curve">;

/** Trains until the task is learned, the steps or minutes are over, or the signal says so. */
export async function learn(learning: Learning): Promise<Learned> {
  const { plan, model } = learning;
  const { before } = plan;
  if (before && isLearned(plan.settings, before.curve)) {
    const { step, tokens, seconds, curve } = before;
    const out = learning.flags.out!;
    // A run that was killed before its last save has yet to come there again.
    if ((await readRunState(out)).step === curve.at(-1)!.step) {
      await loadModelWeights(model, await openSource(join(out, "last")));
      return { step, tokens, seconds, curve, learned: true };
    }
  }
  return new Lesson(learning).run();
}

/** Whether the last checks, as many as are asked for, found the task learned at the last length. */
function isLearned({ stopAt, stopChecks, curriculum }: TaskSettings, curve: readonly CurvePoint[]): boolean {
  const last = curve.slice(-stopChecks);
  const isReached = ({ length, tokenAccuracy }: CurvePoint): boolean =>
    length === curriculum.at(-1) && tokenAccuracy >= stopAt;
  return stopAt > 0 && last.length === stopChecks && last.every(isReached);
}

/** Training under way. */
class Lesson {
  readonly #learning: Learning;
  readonly #curve: CurvePoint[] = [];
  /** When training began, in seconds; earlier by what a resumed run had taken. */
  #began = 0;
  #data: TaskBatches | undefined;
  #progress: TrainProgress | undefined;
  #losses: number[] = [];

  constructor(learning: Learning) {
    this.#learning = learning;
  }

  async run(): Promise<Learned> {
    const { plan, flags, model, signal } = this.#learning;
    const { settings, before } = plan;
    const limit = new AbortController();
    const { steps, lr, schedule, warmup, weightDecay, beta2, clip, precision, checkpointBlocks, evalEvery } = settings;
    const result = await train<ModelState>({
      model,
      data: (position) => {
        const [length] = settings.curriculum;
        this.#data = taskBatches(plan.task, { batch: settings.batch, length, seed: settings.seed, position });
        this.#goOnFrom(before);
        return this.#data;
      },
      steps,
      learningRate: lr,
      schedule,
      warmupSteps: warmup,
      weightDecay,
      beta2,
      clip,
      precision,
      checkpointBlocks,
      checkEvery: evalEvery,
      check: (step) => this.#check(step),
      saveEvery: flags.saveEvery ?? Math.max(evalEvery, Math.floor(steps / 10)),
      logEvery: 10,
      outputDir: flags.out,
      saveModel: (folder) => saveModel(model, folder),
      loadModel: async (folder) => loadModelWeights(model, await openSource(folder)),
      resume: flags.resume,
      settings: remembered(settings),
      signal: AbortSignal.any([signal, limit.signal]),
      onProgress: (progress) => {
        this.#tell(progress);
        if (flags.maxMinutes !== undefined && this.#seconds() > 60 * flags.maxMinutes) limit.abort();
      },
    });
    return { ...this.#learned(result.step), tokens: result.tokens };
  }

  /** A resumed run keeps its curve, up to the step it goes on from. */
  #goOnFrom(before: TaskRecord | undefined): void {
    const kept = before?.curve ?? [];
    this.#curve.push(...kept);
    this.#began = now() - (kept.at(-1)?.seconds ?? 0);
  }

  #seconds(): number {
    return now() - this.#began;
  }

  #learned(step: number): Learned {
    const learned = isLearned(this.#learning.plan.settings, this.#curve);
    return { step, tokens: this.#progress?.tokens ?? 0, seconds: this.#seconds(), learned, curve: this.#curve };
  }

  async #check(step: number): Promise<"stop" | "go on"> {
    const { settings } = this.#learning.plan;
    const data = this.#data!;
    const stages = settings.curriculum;
    const loss = this.#losses.reduce((sum, one) => sum + one, 0) / this.#losses.length;
    this.#losses = [];
    // What was checked after the last save of a run that was killed is checked again.
    while (this.#curve.length > 0 && this.#curve.at(-1)!.step >= step) this.#curve.pop();
    for (;;) {
      const { length } = data;
      const found = await this.#examine(length, step);
      this.#curve.push({
        step,
        length,
        loss,
        tokenAccuracy: found.tokenAccuracy,
        sequenceAccuracy: found.sequenceAccuracy,
        seconds: this.#seconds(),
      });
      this.#learning.bar.log(describeCheck(step, settings.steps, loss, found));
      const next = stages.find((stage) => stage > length);
      if (next === undefined || found.tokenAccuracy < settings.bar) break;
      data.length = next;
    }
    const learned = this.#learned(step);
    await this.#learning.onCheck(learned);
    return learned.learned ? "stop" : "go on";
  }

  #examine(length: number, step: number): Promise<TaskAccuracy> {
    const { plan, model } = this.#learning;
    const { evalExamples, seed } = plan.settings;
    return evaluateTask<ModelState>(model, plan.task, {
      length,
      examples: evalExamples,
      seed: seed + CHECK_SEED * (1 + step),
    });
  }

  #tell(progress: TrainProgress): void {
    this.#progress = progress;
    this.#losses.push(progress.loss);
    const { step, steps, loss, tokensPerSecond, secondsLeft } = progress;
    const { bar } = this.#learning;
    const speed = `${significant(tokensPerSecond)} tokens/s · ${formatSeconds(secondsLeft)} left`;
    bar.update(
      step / steps,
      `step ${step}/${steps} · length ${this.#data!.length} · loss ${loss.toFixed(4)} · ${speed}`,
    );
    if (!bar.isShown && step === 1) log(`step 1/${steps} · loss ${loss.toFixed(4)}`);
  }
}

function describeCheck(step: number, steps: number, loss: number, found: TaskAccuracy): string {
  const { length, tokenAccuracy, sequenceAccuracy } = found;
  const all = `${percent(tokenAccuracy)} of answers, ${percent(sequenceAccuracy)} of sequences right`;
  return `step ${step}/${steps} · length ${length} · loss ${loss.toFixed(4)} · ${all}`;
}

/** `99.95 %`; never 100 for less than all. */
export function percent(share: number): string {
  const text = share < 1 ? Math.min(99.99, 100 * share).toFixed(2) : "100";
  return `${text} %`;
}

/** What a resumed run compares: all but what only decides when it ends. */
function remembered(settings: TaskSettings): Record<string, unknown> {
  return { ...settings, stopAt: undefined, stopChecks: undefined };
}

function now(): number {
  return performance.now() / 1000;
}
