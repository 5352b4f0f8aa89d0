// What a training run takes, tells while it runs, and returns.
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import { ConfigError } from "../core/errors.ts";
import type { BatchPosition, BatchSource } from "../data/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { LossScaling } from "../ops/adamw/updates.ts";
import { planEvaluation, positionsOf } from "./evaluate.ts";
import type { AdamWOptions, ResolvedAdamW } from "./optimizer.ts";
import { resolveAdamW } from "./optimizer.ts";
import type { Schedule } from "./schedule.ts";
import { checkSchedule } from "./schedule.ts";

/** Text that is held out of training. */
export interface EvaluationData {
  readonly tokens: ArrayLike<number>;
  /** Bytes of the text that they came from. */
  readonly bytes: number;
  /** Tokens of a window, each from a fresh state. Without it the text is one sequence with a carried state. */
  readonly window?: number | undefined;
}

/** How numbers are held while training; see {@link TrainOptions.precision}. */
export type Precision = "f32" | "mixed";

/** A training run: model, data, recipe, and where it is kept. */
export interface TrainOptions<S extends ModelState> extends AdamWOptions {
  /** With plain float32 weights (`trainable: true`), initialised or loaded. */
  readonly model: LanguageModel<S>;
  /**
   * The batches; or a function that makes them from a position on (undefined: from the beginning), which a resumed run
   * calls with the position it stopped at. A source of its own must stand there already (see readRunState).
   */
  readonly data: BatchSource | ((position: BatchPosition | undefined) => BatchSource | Promise<BatchSource>);
  readonly evaluation?: EvaluationData | undefined;
  /** Updates in all, those before a resumption included. */
  readonly steps: number;
  readonly learningRate: number;
  /** Default "cosine". */
  readonly schedule?: Schedule | undefined;
  /** Default 0. */
  readonly warmupSteps?: number | undefined;
  /** Floor of the cosine; default 1e-5 (or learningRate, where that is lower). */
  readonly minLearningRate?: number | undefined;
  /** Batches of one update; the gradient is the mean over all their targets. Default 1. */
  readonly accumulate?: number | undefined;
  /** Truncated backpropagation through time: each batch begins with the state that the last one ended with. Default false. */
  readonly carryState?: boolean | undefined;
  /** Target that is not scored. Default -100. */
  readonly ignoreIndex?: number | undefined;
  /**
   * f32, or mixed: activations and their gradients in float16, weights, sums and states in float32. Mixed needs a model
   * with a choice of activations on the device webgpu, with shader-f16. Default "f32".
   */
  readonly precision?: Precision | undefined;
  /** How mixed precision finds the factor of its losses. */
  readonly lossScaling?: LossScaling | undefined;
  /** Keep only what goes in and out of each block, and compute it again for its gradients: less memory, more time. Default false. */
  readonly checkpointBlocks?: boolean | undefined;
  /** Steps between evaluations; the last step is always evaluated. Default: only the last. */
  readonly evalEvery?: number | undefined;
  /** Steps between saves of `last`; the last step is always saved. Default: only the last. */
  readonly saveEvery?: number | undefined;
  /** Steps between lines of metrics.jsonl. Default 1. */
  readonly logEvery?: number | undefined;
  /** Folder of the run: metrics.jsonl, last/ and best/. Node only. Without it nothing is written. */
  readonly outputDir?: string | undefined;
  /** Writes configuration, weights and tokenizer into a folder. Needed with outputDir. */
  readonly saveModel?: ((folder: string) => Promise<void>) | undefined;
  /** Continue the run in outputDir. Default false; then outputDir must hold no run. */
  readonly resume?: boolean | undefined;
  /** Loads the weights of a folder into `model`. Needed with resume. */
  readonly loadModel?: ((folder: string) => Promise<void>) | undefined;
  /** The caller's own settings (sizes, data, batch, seed), JSON. Logged, and on resumption compared field by field. */
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  /** Steps between calls of `check`. Default: only the last. */
  readonly checkEvery?: number | undefined;
  /**
   * Called between steps, when none is under way; before the save of that step. It may look at the model and change what
   * the data give next. "stop" ends the run there, as the signal does.
   */
  readonly check?: ((step: number) => Promise<"stop" | "go on">) | undefined;
  /** Finishes the steps under way, saves and returns. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Called after each step, and again after an evaluation, then with its result. On a GPU some steps later, for the next
   * ones are under way before the loss is known.
   */
  readonly onProgress?: ((progress: TrainProgress) => void) | undefined;
}

/** An evaluation during training. */
export interface EvaluationResult {
  /** Nats per prediction. */
  readonly loss: number;
  readonly bitsPerByte: number;
}

/** Told after each step, and after an evaluation. */
export interface TrainProgress {
  readonly step: number;
  readonly steps: number;
  /** Nats per target, mean over the step. */
  readonly loss: number;
  readonly learningRate: number;
  /** Norm of all gradients, before clipping. Not finite where mixed precision left a step out, because it overflowed. */
  readonly gradNorm: number;
  /** In mixed precision: the factor of the next losses. */
  readonly lossScale?: number;
  /** Tokens trained on so far. */
  readonly tokens: number;
  /** Of late, evaluations and saves left out. */
  readonly tokensPerSecond: number;
  readonly secondsLeft: number;
  readonly evaluation?: EvaluationResult;
}

/** How a run ended. */
export interface TrainResult {
  readonly step: number;
  readonly tokens: number;
  /** Of the last step; undefined when none was made. */
  readonly loss: number | undefined;
  /** Of the last evaluation in this call. */
  readonly evaluation: EvaluationResult | undefined;
  /** The lowest evaluation loss of the run, and its step: what lies in best/. */
  readonly best: BestEvaluation | undefined;
  /** Whether the signal, or `check`, ended the run before its last step. */
  readonly stopped: boolean;
}

/** The lowest evaluation loss so far, and when. */
export interface BestEvaluation extends EvaluationResult {
  readonly step: number;
}

/** What decides the numbers that are computed, every default filled in. */
export interface Recipe extends ResolvedAdamW {
  readonly learningRate: number;
  readonly schedule: Schedule;
  readonly warmupSteps: number;
  readonly minLearningRate: number | null;
  readonly accumulate: number;
  readonly carryState: boolean;
  readonly ignoreIndex: number;
  readonly precision?: "mixed";
}

/** The recipe of a run, for its record. Throws ConfigError for options of AdamW out of range. */
export function recipeOf<S extends ModelState>(options: TrainOptions<S>): Recipe {
  const { learningRate, schedule = "cosine", warmupSteps = 0, minLearningRate = null } = options;
  const { accumulate = 1, carryState = false, ignoreIndex = -100 } = options;
  const rates = { learningRate, schedule, warmupSteps, minLearningRate };
  const recipe = { ...rates, ...resolveAdamW(options), accumulate, carryState, ignoreIndex };
  return options.precision === "mixed" ? { ...recipe, precision: "mixed" } : recipe;
}

/** Throws ConfigError with the field, its rule and what came; DataError for a text too short to evaluate. */
export function checkTrainOptions<S extends ModelState>(options: TrainOptions<S>): void {
  checkSchedule({ ...options, schedule: options.schedule ?? "cosine" });
  for (const field of ["accumulate", "evalEvery", "saveEvery", "logEvery", "checkEvery"] as const) {
    const value = options[field];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 1))
      throw new ConfigError(`train: ${field} must be a whole number, 1 or more, got ${value}.`);
  }
  const needs: [boolean, string][] = [
    [
      options.outputDir !== undefined && !options.saveModel,
      "outputDir needs saveModel, which writes the model's own files",
    ],
    [options.resume === true && options.outputDir === undefined, "resume needs outputDir, the folder of the run"],
    [options.resume === true && !options.loadModel, "resume needs loadModel, which loads the weights of a folder"],
    [options.evalEvery !== undefined && !options.evaluation, "evalEvery needs evaluation, the text that is held out"],
  ];
  for (const [isMissing, text] of needs) if (isMissing) throw new ConfigError(`train: ${text}.`);
  checkPrecision(options);
  if (options.carryState) checkCarried(options.model);
  const { evaluation, model } = options;
  if (evaluation) planEvaluation(evaluation.tokens.length, positionsOf(model), evaluation);
}

/** A state that grows holds keys and values, which a pass with gradients does not keep. */
function checkCarried<S extends ModelState>(model: LanguageModel<S>): void {
  const state = model.initialState(1);
  const { room } = state;
  state.dispose();
  if (room !== undefined)
    throw new ConfigError(
      "train: carryState needs a model whose state has a constant size, and this one attends to all tokens so far. Train it on windows, without carryState.",
    );
}

function checkPrecision<S extends ModelState>({ precision = "f32", model }: TrainOptions<S>): void {
  if (precision !== "f32" && precision !== "mixed")
    throw new ConfigError(`train: precision must be f32 or mixed, got ${String(precision)}.`);
  if (precision === "f32") return;
  const { backend } = model;
  if (backend.name !== "webgpu")
    throw new ConfigError(
      `train: precision mixed needs the device webgpu, and the model is on ${backend.name}. Use precision f32.`,
    );
  if (!(backend as WebGpuBackend).has("shader-f16"))
    throw new ConfigError("train: precision mixed needs shader-f16, which this GPU does not offer. Use precision f32.");
  if (model.activations === undefined)
    throw new ConfigError("train: precision mixed needs a model with a choice of activations. Use precision f32.");
}
