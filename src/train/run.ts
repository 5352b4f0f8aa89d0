// Run: a training run under way. It makes steps, evaluates, saves, and tells of it.
import { DataError } from "../core/errors.ts";
import { checkNode } from "../core/node-only.ts";
import type { Batch, BatchSource } from "../data/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { UpdateReport } from "../ops/adamw/updates.ts";
import type { Parameter } from "../tensor/parameter.ts";
import { evaluate } from "./evaluate.ts";
import { addGradients, compileGradients } from "./gradients.ts";
import { AdamW } from "./optimizer.ts";
import type { BestEvaluation, EvaluationResult, Recipe, TrainOptions, TrainProgress, TrainResult } from "./options.ts";
import { recipeOf } from "./options.ts";
import { pause } from "../core/pause.ts";
import { Rate } from "./rate.ts";
import type { RunFolder } from "./run-folder-node.ts";
import type { RunState } from "./run-state.ts";
import { checkSamePlace, checkSameRun } from "./run-state.ts";
import { learningRateAt } from "./schedule.ts";

/** Steps at once on a GPU: it is given the next ones before the last is done, and never waits for the host. */
const STEPS_UNDER_WAY = 3;

/** A step that was queued. */
interface StepUnderWay {
  readonly step: number;
  /** Tokens of this step, and of all steps up to it. */
  readonly tokens: number;
  readonly allTokens: number;
  readonly learningRate: number;
  readonly loss: Promise<number>;
  readonly update: Promise<UpdateReport>;
}

export class Run<S extends ModelState> {
  readonly #options: TrainOptions<S>;
  readonly #data: BatchSource;
  readonly #folder: RunFolder | undefined;
  readonly #parameters: readonly Parameter[];
  readonly #optimizer: AdamW;
  readonly #recipe: Recipe;
  readonly #rate = new Rate(seconds());
  readonly #underWay: StepUnderWay[] = [];
  /** Before this run: it is put back. */
  readonly #activations: LanguageModel["activations"];
  /** When the first of the steps under way began, or the one before it was told of. */
  #since = 0;
  #carried: S | undefined;
  #step = 0;
  #tokens = 0;
  #best: BestEvaluation | undefined;
  #evaluatedStep = 0;
  #checkedStep = 0;
  #isEnough = false;
  #savedStep = 0;
  #isSaved = true;
  #progress: TrainProgress | undefined;
  #evaluation: EvaluationResult | undefined;

  /** The parameters have values. */
  private constructor(options: TrainOptions<S>, data: BatchSource, folder: RunFolder | undefined) {
    const parameters = options.model.namedParameters();
    this.#options = options;
    this.#recipe = recipeOf(options);
    this.#data = data;
    this.#folder = folder;
    this.#parameters = [...parameters.values()];
    const { model, precision, lossScaling = {} } = options;
    this.#optimizer = new AdamW(parameters, options, precision === "mixed" ? lossScaling : undefined);
    this.#activations = model.activations;
    if (model.activations !== undefined) model.activations = precision === "mixed" ? "f16" : "f32";
    for (const parameter of this.#parameters) parameter.clearGrad();
  }

  /** Begins a run, or continues the one in outputDir. The options are checked before. */
  static async open<S extends ModelState>(options: TrainOptions<S>): Promise<Run<S>> {
    const { outputDir, saveModel, resume = false } = options;
    if (outputDir === undefined) return new Run(options, await openData(options), undefined);
    checkNode("train with outputDir", "In a browser leave it out; the model holds what was learned.");
    const { readRunState, RunFolder } = await import("./run-folder-node.ts");
    const folder = new RunFolder(outputDir, saveModel!);
    if (resume) return Run.#resume(options, folder, await readRunState(outputDir));
    const data = await openData(options);
    await folder.begin();
    const run = new Run(options, data, folder);
    await run.#logSettings();
    return run;
  }

  static async #resume<S extends ModelState>(
    options: TrainOptions<S>,
    folder: RunFolder,
    saved: RunState,
  ): Promise<Run<S>> {
    const { steps, settings = {} } = options;
    checkSameRun(saved, { recipe: recipeOf(options), settings, steps }, folder.last);
    const data = await openData(options, saved.position);
    checkSamePlace(saved, data, folder.last);
    await options.loadModel!(folder.last);
    const run = new Run(options, data, folder);
    try {
      await run.#continueFrom(saved, folder);
    } catch (error) {
      run.dispose();
      throw error;
    }
    return run;
  }

  /** Evaluates and saves where that is due; then says whether the run is over. */
  async isDone(): Promise<boolean> {
    const { steps, evalEvery = steps, saveEvery = steps, signal } = this.#options;
    if (this.#step % evalEvery === 0 || this.#step % saveEvery === 0) await this.#settle(0);
    await this.#evaluateIfDue();
    await this.#checkIfDue();
    const isOver = this.#step >= steps || this.#isEnough || (signal?.aborted ?? false);
    if (isOver) await this.#settle(0);
    if (!this.#isSaved && (isOver || this.#step % saveEvery === 0)) await this.#save();
    return isOver;
  }

  /** One update of the weights; on a GPU it is only queued, and an earlier one is waited for. */
  async step(): Promise<void> {
    const { model, schedule = "cosine", checkpointBlocks = false } = this.#options;
    if (this.#underWay.length === 0) this.#since = seconds();
    const batches: Batch[] = Array.from({ length: this.#recipe.accumulate }, () => this.#data.next());
    const state = this.#carried;
    this.#carried = undefined;
    const { lossScale } = this.#optimizer;
    const how = { ...this.#recipe, checkpointBlocks, lossScale };
    await compileGradients(model, this.#parameters, batches[0], how);
    const computed = addGradients(model, this.#parameters, batches, state, how);
    // Whoever waits for it hears of a failure; nobody may come to that.
    computed.loss.catch(() => undefined);
    this.#carried = computed.state;
    const step = this.#step + 1;
    const isQueued = model.backend.name === "webgpu";
    if (!isQueued) this.#checkFinite("loss", await computed.loss, step);
    const learningRate = learningRateAt(step, { ...this.#options, schedule });
    this.#optimizer.step(learningRate);
    const update = this.#optimizer.report();
    update.catch(() => undefined);
    this.#step = step;
    this.#isSaved = false;
    const tokens = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
    this.#tokens += tokens;
    this.#underWay.push({ step, tokens, allTokens: this.#tokens, learningRate, loss: computed.loss, update });
    await pause();
    await this.#settle(isQueued ? STEPS_UNDER_WAY - 1 : 0);
  }

  /** Waits until so many steps are under way at the most, and tells of those that are done. */
  async #settle(most: number): Promise<void> {
    while (this.#underWay.length > most) await this.#tell(this.#underWay.shift()!);
  }

  async #tell({ step, tokens, allTokens, learningRate, ...found }: StepUnderWay): Promise<void> {
    const { onProgress, steps, logEvery = 1 } = this.#options;
    const loss = await found.loss;
    this.#checkFinite("loss", loss, step);
    const { norm: gradNorm, isFinite, lossScale } = await found.update;
    // An overflow of scaled gradients is what the scale is for; below 1 it is the gradients that are not finite.
    const isScaled = this.#optimizer.lossScale !== undefined;
    if (!isFinite && !(isScaled && lossScale >= 1)) this.#checkFinite("norm of the gradients", gradNorm, step);
    const now = seconds();
    this.#rate.add(tokens, now - this.#since);
    this.#since = now;
    const { tokensPerSecond } = this.#rate;
    const scale = isScaled ? { lossScale } : {};
    const line = { step, loss, learningRate, gradNorm, ...scale, tokens: allTokens, tokensPerSecond };
    this.#progress = { ...line, steps, secondsLeft: this.#rate.secondsLeft(steps - step, now) };
    if (step % logEvery === 0 || step === steps) await this.#folder?.log(line);
    onProgress?.(this.#progress);
  }

  result(): TrainResult {
    return {
      step: this.#step,
      tokens: this.#tokens,
      loss: this.#progress?.loss,
      evaluation: this.#evaluation,
      best: this.#best,
      stopped: this.#step < this.#options.steps,
    };
  }

  dispose(): void {
    const { model } = this.#options;
    if (this.#activations !== undefined) model.activations = this.#activations;
    this.#optimizer.dispose();
    this.#carried?.dispose();
    this.#carried = undefined;
  }

  async #evaluateIfDue(): Promise<void> {
    const { model, evaluation, steps, evalEvery = steps, signal, onProgress } = this.#options;
    const isDue = this.#step > this.#evaluatedStep && (this.#step % evalEvery === 0 || this.#step >= steps);
    if (!evaluation || !isDue || signal?.aborted) return;
    const { tokens, ...how } = evaluation;
    try {
      const { nll, bitsPerByte } = await evaluate(model, tokens, { ...how, signal });
      this.#evaluation = { loss: nll, bitsPerByte };
    } catch (error) {
      // An evaluation that is cut short is made up for when the run is resumed.
      if (signal?.aborted) return;
      throw error;
    }
    this.#evaluatedStep = this.#step;
    this.#isSaved = false;
    await this.#folder?.log({ step: this.#step, evaluation: this.#evaluation });
    if (!this.#best || this.#evaluation.loss < this.#best.loss) {
      this.#best = { step: this.#step, ...this.#evaluation };
      await this.#folder?.saveBest(this.#best);
    }
    if (this.#progress) onProgress?.({ ...this.#progress, evaluation: this.#evaluation });
  }

  async #checkIfDue(): Promise<void> {
    const { steps, check, checkEvery = steps, signal } = this.#options;
    const isDue = this.#step > this.#checkedStep && (this.#step % checkEvery === 0 || this.#step >= steps);
    if (!check || !isDue || signal?.aborted) return;
    await this.#settle(0);
    this.#checkedStep = this.#step;
    this.#isEnough = (await check(this.#step)) === "stop";
  }

  async #save(): Promise<void> {
    const carried = await this.#carried?.toArrays();
    const tensors = carried?.map(({ name, shape, data }) => ({ name, shape, dtype: "F32" as const, data: () => data }));
    await this.#folder?.saveLast(this.#state(), this.#optimizer, tensors);
    this.#savedStep = this.#step;
    this.#isSaved = true;
  }

  #state(): RunState {
    const { settings = {} } = this.#options;
    return {
      version: 1,
      step: this.#step,
      tokens: this.#tokens,
      evaluatedStep: this.#evaluatedStep,
      best: this.#best ?? null,
      position: this.#data.position,
      data: this.#data.description,
      recipe: this.#recipe,
      settings,
    };
  }

  async #continueFrom(saved: RunState, folder: RunFolder): Promise<void> {
    await folder.loadOptimizer(this.#optimizer);
    if (this.#recipe.carryState) this.#carried = await folder.loadCarried(this.#options.model);
    await folder.continueFrom(saved.step);
    this.#step = this.#savedStep = this.#checkedStep = saved.step;
    this.#tokens = saved.tokens;
    this.#evaluatedStep = saved.evaluatedStep;
    this.#best = saved.best ?? undefined;
    await this.#logSettings();
  }

  async #logSettings(): Promise<void> {
    const { model, settings = {}, steps } = this.#options;
    const { name: device, threads } = model.backend;
    const data = this.#data.description;
    await this.#folder?.log({ step: this.#step, steps, device, threads, data, recipe: this.#recipe, settings });
  }

  #checkFinite(what: string, value: number, step: number): void {
    if (Number.isFinite(value)) return;
    const kept =
      this.#savedStep > 0 && this.#folder
        ? ` The checkpoint of step ${this.#savedStep} is kept in ${this.#folder.last}.`
        : " No checkpoint was saved before; see saveEvery.";
    throw new DataError(
      `train: the ${what} is ${value} at step ${step}. Try a lower learning rate (it is ${this.#recipe.learningRate}), a longer warm-up (${this.#recipe.warmupSteps} steps) or a smaller clip (${this.#recipe.clip}), and check the data and the weights it began with.${kept}`,
    );
  }
}

async function openData<S extends ModelState>(
  { data }: TrainOptions<S>,
  position?: RunState["position"],
): Promise<BatchSource> {
  return typeof data === "function" ? data(position) : data;
}

function seconds(): number {
  return performance.now() / 1000;
}
