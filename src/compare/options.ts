// What a comparison takes and tells. The settings are plain JSON: a comparison remembers them, and is resumed with them.
import type { Device } from "../backends/index.ts";
import type { TaskOptions } from "../data/index.ts";
import type { ReferenceSeries, Report } from "../report/schema.ts";
import type { Precision, Schedule } from "../train/index.ts";

/** What is measured of each model, in this order. */
export const MEASUREMENTS = [
  "training",
  "quality",
  "extrapolation",
  "prefill",
  "decode",
  "batch",
  "training-speed",
] as const;

export type Measurement = (typeof MEASUREMENTS)[number];

/** Those that do not depend on what a model has learned. */
export const SPEED: readonly Measurement[] = ["prefill", "decode", "batch", "training-speed"];

/** What is compared, and how. Either `data` or `task`. */
export interface CompareSettings {
  /** Text files, or folders of *.txt files, to train on. */
  readonly data?: readonly string[] | undefined;
  /** Other files to measure on, each by its name. Default: the last part of every training text. */
  readonly heldOut?: readonly string[] | undefined;
  /** Share of every text's end that is held out, where heldOut names no files. Default 0.05. */
  readonly evalFraction?: number | undefined;
  /** Documents in a file are separated by lines that are exactly this text. */
  readonly separator?: string | undefined;
  /** "bytes" (default), or the path of a tokenizer.json. */
  readonly tokenizer?: string | undefined;
  /** A synthetic task in place of texts. */
  readonly task?: string | undefined;
  readonly taskOptions?: TaskOptions | undefined;
  /** Names of models/architectures.ts. Default mamba, transformer, lstm, s4d; of a sweep mamba, transformer. */
  readonly architectures?: readonly string[] | undefined;
  /** Parameters of each model. Default 1 million; with `sweep` only where it is given. */
  readonly parameters?: number | undefined;
  /** Width and layers of all models, in place of a budget of parameters. */
  readonly dModel?: number | undefined;
  readonly layers?: number | undefined;
  /** Tokens that each model is trained on. Default 20 a parameter, or as many as `minutes` allow. */
  readonly tokens?: number | undefined;
  /** Minutes of training for the slowest model; all get its tokens. */
  readonly minutes?: number | undefined;
  /** Tokens of a sequence in training; of a task its length. Default 256, or the task's own. */
  readonly length?: number | undefined;
  /** Sequences side by side. Default 32. */
  readonly batch?: number | undefined;
  /** Peak learning rates by architecture; the others have those of recipes.ts. */
  readonly learningRates?: Readonly<Record<string, number>> | undefined;
  /**
   * Find the rates that learningRates does not give by short trainings, before each training. Their scores are losses on
   * what is held out. Default false.
   */
  readonly tune?: boolean | undefined;
  /** Tokens of a trial, as a share of those of training. Default 0.15. */
  readonly tuneShare?: number | undefined;
  /** Rates of the trials, as factors of the default; a best one at the edge adds one beyond it. Default 0.5, 1, 2, 4. */
  readonly tuneFactors?: readonly number[] | undefined;
  /** Default cosine; of a task constant. */
  readonly schedule?: Schedule | undefined;
  /** Steps of warm-up. Default: a tenth, 200 at the most. */
  readonly warmup?: number | undefined;
  /** Default 0.1; of a task 0. */
  readonly weightDecay?: number | undefined;
  /** Default 1. */
  readonly clip?: number | undefined;
  /** Default f32. With mixed, speed is measured with float16 activations too. */
  readonly precision?: Precision | undefined;
  readonly checkpointBlocks?: boolean | undefined;
  /** Of weights and batches. Default 0. */
  readonly seed?: number | undefined;
  /** Default: all. Speed alone needs no training. */
  readonly measurements?: readonly Measurement[] | undefined;
  /** Longest input. Default: of extrapolation 16 times the training length (a task's: 2^20), of speed 2^17 (CPU: 2^14). */
  readonly maxLength?: number | undefined;
  /** Most sequences side by side when decoding. Default 256 on a GPU, else 32. */
  readonly maxBatch?: number | undefined;
  /** Most seconds of one point of a chart. Default 60. */
  readonly pointSeconds?: number | undefined;
  /** Most tokens of each held-out text that are scored, and of a task's examples of a length (but 16 examples at least). Default 2^20 on a GPU, else 2^17. */
  readonly evalTokens?: number | undefined;
  /** Sizes of a sweep, in parameters. */
  readonly sweep?: readonly number[] | undefined;
  /** Training tokens a parameter, in a sweep and where neither tokens nor minutes are given. Default 20. */
  readonly tokensPerParameter?: number | undefined;
  readonly title?: string | undefined;
  readonly device?: Device | undefined;
  readonly threads?: number | undefined;
}

/** A comparison: what, where, and whom it tells. */
export interface CompareOptions {
  /** Remembered in `out`. Of a comparison that is resumed: only what changes, see {@link FREE_SETTINGS}. */
  readonly settings: CompareSettings;
  /** The folder: report.json, index.html, charts/, and runs/ with a checkpoint of each model. */
  readonly out: string;
  /** Go on with what is in `out`. Default false; then `out` must hold no comparison. */
  readonly resume?: boolean | undefined;
  /** Measurements of other software, for the charts. */
  readonly references?: readonly ReferenceSeries[] | undefined;
  /** For the report: the command that was given, and what made it. */
  readonly command?: string | undefined;
  readonly software?: string | undefined;
  /** Stops: saves what is under way and returns what there is. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CompareProgress) => void) | undefined;
  /** A line for people. */
  readonly onLine?: ((line: string) => void) | undefined;
}

/** Settings that a resumed comparison may change: they decide what else is measured, not what was (another device is refused). */
export const FREE_SETTINGS: ReadonlySet<keyof CompareSettings> = new Set([
  "measurements",
  "maxLength",
  "maxBatch",
  "pointSeconds",
  "title",
  "threads",
]);

export interface CompareProgress {
  /** Parts that are done, and all. A part is the search for a model's learning rate, its training, or one kind of measurement of it. */
  readonly done: number;
  readonly total: number;
  /** `mamba: training`. */
  readonly part: string;
  /** Of this part, 0 to 1. */
  readonly share: number;
  readonly note: string;
  /** Of the whole; a guess at first. */
  readonly secondsLeft: number;
}

export interface CompareResult {
  readonly report: Report;
  /** Whether the signal ended it before all parts were done. */
  readonly stopped: boolean;
}
