// Run: a training run under way. It makes steps, evaluates, saves, and tells of it.
import { DataError } from "../core/errors.ts";
import { checkNode } from "../core/node-only.ts";
import type { Batch, BatchSource } from "../data/index.ts";
import type { ModelState } from "../nn/language-model.ts";
import type { Parameter } from "../tensor/parameter.ts";
import { evaluate } from "./evaluate.ts";
import { addGradients } from "./gradients.ts";
import { AdamW } from "./optimizer.ts";
import type { BestEvaluation, EvaluationResult, Recipe, TrainOptions, TrainProgress, TrainResult } from "./options.ts";
import { recipeOf } from "./options.ts";
import { pause } from "../core/pause.ts";
import { Rate } from "./rate.ts";
import type { RunFolder } from "./run-folder-node.ts";
import type { RunState } from "./run-state.ts";
import { checkSamePlace, checkSameRun } from "./run-state.ts";
import { learningRateAt } from "./schedule.ts";

export class Run<S extends ModelState> {
  readonly #options: TrainOptions<S>;
  readonly #data: BatchSource;
  readonly #folder: RunFolder | undefined;
  readonly #parameters: readonly Parameter[];
  readonly #optimizer: AdamW;
  readonly #recipe: Recipe;
  readonly #rate = new Rate(seconds());
  #carried: S | undefined;
  #step = 0;
  #tokens = 0;
  #best: BestEvaluation | undefined;
  #evaluatedStep = 0;
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
    this.#optimizer = new AdamW(parameters, options);
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
    const { steps, saveEvery = steps, signal } = this.#options;
    await this.#evaluateIfDue();
    const isOver = this.#step >= steps || (signal?.aborted ?? false);
    if (!this.#isSaved && (isOver || this.#step % saveEvery === 0)) await this.#save();
    return isOver;
  }

  /** One update of the weights. */
  async step(): Promise<void> {
    const { model, onProgress, steps, schedule = "cosine", logEvery = 1 } = this.#options;
    const begin = seconds();
    const batches: Batch[] = Array.from({ length: this.#recipe.accumulate }, () => this.#data.next());
    const state = this.#carried;
    this.#carried = undefined;
    const computed = await addGradients(model, this.#parameters, batches, state, this.#recipe);
    this.#carried = computed.state;
    this.#checkFinite("loss", computed.loss);
    const learningRate = learningRateAt(this.#step + 1, { ...this.#options, schedule });
    const gradNorm = this.#optimizer.step(learningRate);
    this.#checkFinite("norm of the gradients", gradNorm);
    this.#step++;
    this.#isSaved = false;
    const tokens = batches.reduce((sum, { tokens }) => sum + tokens.length, 0);
    this.#tokens += tokens;
    await pause();
    this.#rate.add(tokens, seconds() - begin);
    const { tokensPerSecond } = this.#rate;
    const line = {
      step: this.#step,
      loss: computed.loss,
      learningRate,
      gradNorm,
      tokens: this.#tokens,
      tokensPerSecond,
    };
    this.#progress = { ...line, steps, secondsLeft: this.#rate.secondsLeft(steps - this.#step, seconds()) };
    if (this.#step % logEvery === 0 || this.#step === steps) await this.#folder?.log(line);
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
    if (this.#recipe.carryState) this.#carried = await folder.loadCarried(this.#options.loadState!);
    await folder.continueFrom(saved.step);
    this.#step = this.#savedStep = saved.step;
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

  #checkFinite(what: string, value: number): void {
    if (Number.isFinite(value)) return;
    const kept =
      this.#savedStep > 0 && this.#folder
        ? ` The checkpoint of step ${this.#savedStep} is kept in ${this.#folder.last}.`
        : " No checkpoint was saved before; see saveEvery.";
    throw new DataError(
      `train: the ${what} is ${value} at step ${this.#step + 1}. Try a lower learning rate (it is ${this.#recipe.learningRate}), a longer warm-up (${this.#recipe.warmupSteps} steps) or a smaller clip (${this.#recipe.clip}), and check the data and the weights it began with.${kept}`,
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
