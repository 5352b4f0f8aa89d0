// The plan of a comparison: which models of which sizes, trained how, and what is measured. It is plain JSON.
import type { Backend } from "../backends/backend.ts";
import { ConfigError, MambaError, UsageError } from "../core/errors.ts";
import { findArchitecture } from "../models/architectures.ts";
import type { Precision, Schedule } from "../train/index.ts";
import type { CompareData } from "./data.ts";
import type { CompareSettings, Measurement } from "./options.ts";
import { MEASUREMENTS, SPEED } from "./options.ts";
import { learningRateOf } from "./recipes.ts";
import type { ModelSizes } from "./sizes.ts";
import { chooseSizes, sizesOf } from "./sizes.ts";

const ARCHITECTURES = ["mamba", "transformer", "lstm", "s4d"];
const SWEEP_ARCHITECTURES = ["mamba", "transformer"];
const TUNE_FACTORS = [0.5, 1, 2, 4];

/** A model that will be made, or the reason why not. */
export interface PlannedModel {
  readonly name: string;
  readonly architecture: string;
  readonly description: string;
  /** Of the runs' folder. */
  readonly folder: string;
  /** The budget; 0 where sizes were given. */
  readonly budget: number;
  readonly sizes: ModelSizes;
  readonly parameters: number;
  readonly activeParameters?: number;
  readonly learningRate: number;
  /** Whether trials look for a better rate. */
  readonly isTuned?: boolean;
  readonly steps: number;
  readonly tokens: number;
  /** Why there is no such model. */
  readonly skipped?: string;
}

/** Everything that the settings leave open, decided. */
export interface Resolved {
  readonly length: number;
  /** Tokens of a sequence: `length`, or what a task makes of it. */
  readonly sequence: number;
  readonly batch: number;
  readonly schedule: Schedule;
  readonly warmup: number | undefined;
  readonly weightDecay: number;
  readonly clip: number;
  readonly precision: Precision;
  readonly checkpointBlocks: boolean;
  readonly seed: number;
  readonly measurements: readonly Measurement[];
  readonly maxLength: { readonly extrapolation: number; readonly speed: number };
  readonly maxBatch: number;
  readonly pointSeconds: number;
  readonly evalTokens: number;
  readonly tokensPerParameter: number;
  /** Trials of learning rates: tokens of each as a share of the training's, and the rates as factors of the default. */
  readonly tune: { readonly share: number; readonly factors: readonly number[] } | undefined;
}

/** @throws ConfigError, UsageError for settings that are out of range or contradict each other */
export function resolveSettings(settings: CompareSettings, data: CompareData, backend: Backend): Resolved {
  checkNumbers(settings);
  const isTask = data.kind === "task";
  const isGpu = backend.name === "webgpu";
  const length = settings.length ?? (isTask ? data.task.defaultLength : 256);
  if (isTask) data.task.checkLength(length);
  const { maxLength } = settings;
  return {
    length,
    sequence: data.sequenceLength(length),
    batch: settings.batch ?? 32,
    schedule: settings.schedule ?? (isTask ? "constant" : "cosine"),
    warmup: settings.warmup,
    weightDecay: settings.weightDecay ?? (isTask ? 0 : 0.1),
    clip: settings.clip ?? 1,
    precision: settings.precision ?? "f32",
    checkpointBlocks: settings.checkpointBlocks ?? false,
    seed: settings.seed ?? 0,
    measurements: withNeeds(settings.measurements ?? MEASUREMENTS),
    maxLength: {
      extrapolation: maxLength ?? (isTask ? 2 ** 20 : 16 * length),
      speed: maxLength ?? (isGpu ? 2 ** 17 : 2 ** 14),
    },
    maxBatch: settings.maxBatch ?? (isGpu ? 256 : 32),
    pointSeconds: settings.pointSeconds ?? 60,
    evalTokens: settings.evalTokens ?? (isGpu ? 2 ** 20 : 2 ** 17),
    tokensPerParameter: settings.tokensPerParameter ?? 20,
    tune: tuneOf(settings),
  };
}

function tuneOf({ tune = false, tuneShare = 0.15, tuneFactors = TUNE_FACTORS }: CompareSettings): Resolved["tune"] {
  if (!(tuneShare > 0 && tuneShare <= 1))
    throw new ConfigError(`compare: tuneShare must be a share above 0 and at most 1, got ${tuneShare}.`);
  const isRight = tuneFactors.every((factor) => factor > 0 && factor < Infinity);
  if (!isRight || tuneFactors.length < 2 || new Set(tuneFactors).size < tuneFactors.length)
    throw new ConfigError(
      `compare: tuneFactors must be two or more different numbers above 0, got ${tuneFactors.join(", ") || "none"}.`,
    );
  return tune ? { share: tuneShare, factors: tuneFactors } : undefined;
}

/** What is measured of learned weights needs training. */
function withNeeds(wanted: readonly Measurement[]): Measurement[] {
  const isTrained = wanted.some((one) => !SPEED.includes(one));
  return MEASUREMENTS.filter((one) => wanted.includes(one) || (one === "training" && isTrained));
}

function checkNumbers(settings: CompareSettings): void {
  const whole = ["parameters", "dModel", "layers", "tokens", "length", "batch", "maxLength", "maxBatch", "evalTokens"];
  const positive = ["minutes", "pointSeconds", "tokensPerParameter"];
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined) continue;
    if (whole.includes(name) && !(Number.isSafeInteger(value) && (value as number) >= 1))
      throw new ConfigError(`compare: ${name} must be a whole number, 1 or more, got ${String(value)}.`);
    if (positive.includes(name) && !((value as number) > 0 && (value as number) < Infinity))
      throw new ConfigError(`compare: ${name} must be a number above 0, got ${String(value)}.`);
  }
  if (settings.tokens !== undefined && settings.minutes !== undefined)
    throw new UsageError("compare: give tokens or minutes, not both: each of them decides how long training is.");
  if (!settings.tune && (settings.tuneShare !== undefined || settings.tuneFactors !== undefined))
    throw new UsageError("compare: tuneShare and tuneFactors say how learning rates are tuned; give tune, too.");
  if ((settings.dModel === undefined) !== (settings.layers === undefined))
    throw new UsageError("compare: dModel and layers belong together; leave both out to have them chosen.");
  if (settings.dModel !== undefined && settings.parameters !== undefined)
    throw new UsageError("compare: give parameters, or dModel and layers, not both: each decides the sizes.");
}

/** The models to compare; none where a sweep is all that was asked for. Their tokens may still be open (0). */
export function planModels(settings: CompareSettings, how: Resolved, data: CompareData): PlannedModel[] {
  const { sweep, dModel } = settings;
  if (sweep && settings.parameters === undefined && dModel === undefined) return [];
  const parameters = settings.parameters ?? (dModel === undefined ? 1_000_000 : 0);
  const names = namesOf(settings.architectures ?? ARCHITECTURES);
  const planned = names.map((architecture) =>
    planOne({ architecture, parameters, name: architecture, folder: architecture, settings, how, data }),
  );
  // All get the same: as many a parameter as the budget asks for, or the largest of models of given sizes.
  const largest = Math.max(...planned.map((model) => model.parameters));
  const tokens = settings.tokens ?? (parameters || largest) * how.tokensPerParameter;
  return planned.map((model) => (settings.minutes === undefined ? withTokens(model, tokens, how) : model));
}

/** The models of a sweep: each architecture at each size, with tokens in proportion to it. */
export function planSweep(settings: CompareSettings, how: Resolved, data: CompareData): PlannedModel[] {
  const names = namesOf(settings.architectures ?? SWEEP_ARCHITECTURES);
  const sizes = [...new Set(settings.sweep ?? [])].sort((a, b) => a - b);
  for (const size of sizes)
    if (!(Number.isSafeInteger(size) && size >= 1))
      throw new ConfigError(`compare: a size of a sweep must be a whole number of parameters, got ${size}.`);
  return sizes.flatMap((parameters) =>
    names.map((architecture) => {
      const name = `${architecture} ${shortCount(parameters)}`;
      const folder = `sweep-${architecture}-${shortCount(parameters)}`;
      const model = planOne({ architecture, parameters, name, folder, settings, how, data });
      return withTokens(model, parameters * how.tokensPerParameter, how);
    }),
  );
}

/** The same model, trained on so many tokens, rounded to whole steps. */
export function withTokens(model: PlannedModel, tokens: number, { batch, sequence }: Resolved): PlannedModel {
  const steps = Math.max(1, Math.round(tokens / (batch * sequence)));
  return { ...model, steps, tokens: steps * batch * sequence };
}

/** `300K`, `1.5M`. */
export function shortCount(value: number): string {
  const text = (scaled: number): string => String(Number(scaled.toPrecision(3)));
  if (value >= 1e9) return `${text(value / 1e9)}B`;
  if (value >= 1e6) return `${text(value / 1e6)}M`;
  return value >= 1e3 ? `${text(value / 1e3)}K` : String(value);
}

function namesOf(architectures: readonly string[]): readonly string[] {
  if (architectures.length === 0) throw new UsageError("compare: name at least one architecture.");
  const twice = architectures.find((name, i) => architectures.indexOf(name) !== i);
  if (twice !== undefined) throw new UsageError(`compare: ${twice} is named twice among the architectures.`);
  return architectures;
}

interface Wish {
  readonly architecture: string;
  readonly parameters: number;
  readonly name: string;
  readonly folder: string;
  readonly settings: CompareSettings;
  readonly how: Resolved;
  readonly data: CompareData;
}

function planOne({ architecture, parameters, name, folder, settings, how, data }: Wish): PlannedModel {
  const { description } = findArchitecture(architecture);
  const { dModel, layers: nLayer, learningRates = {} } = settings;
  const about = { name, architecture, description: `${description}.`, folder, budget: parameters, steps: 0, tokens: 0 };
  try {
    const chosen =
      dModel === undefined
        ? chooseSizes(architecture, parameters, data.vocabSize)
        : sizesOf(architecture, { dModel, nLayer: nLayer! }, data.vocabSize);
    const given = learningRates[architecture];
    if (given !== undefined) return { ...about, ...chosen, learningRate: given };
    const learningRate = learningRateOf(architecture, chosen.activeParameters ?? chosen.parameters);
    return { ...about, ...chosen, learningRate, ...(how.tune ? { isTuned: true } : {}) };
  } catch (error) {
    if (!(error instanceof MambaError)) throw error;
    const nothing = { sizes: { dModel: 0, nLayer: 0 }, parameters: 0, learningRate: 0 };
    return { ...about, ...nothing, skipped: error.message };
  }
}
