// The types of report.json: what `mamba compare` has measured. Each number has its unit in its name, or none (a count).
// What could not be measured is left out, and `stopped` or `reason` says why; nothing is NaN, infinite or null.

/** Grows when a reader of the old form would misread the new one. New optional fields need no new version. */
export const REPORT_VERSION = 1;

export interface Report {
  readonly version: typeof REPORT_VERSION;
  readonly title: string;
  /** When the report was made: ISO 8601, `2026-11-26T10:00:00.000Z`. */
  readonly created: string;
  /** The command that makes this report again. */
  readonly command: string;
  /** What made it: `mamba.ts 0.2.0`. */
  readonly software: string;
  readonly machine: ReportMachine;
  readonly data: ReportData;
  readonly budget: ReportBudget;
  /** The settings of training that all models share: batch, length, schedule, weight decay, seed ... */
  readonly recipe: Settings;
  /** In the order in which they were asked for. */
  readonly models: readonly ModelReport[];
  readonly sweep?: SweepReport;
  /** Measurements of other software, shown beside ours. */
  readonly references?: readonly ReferenceSeries[];
  /** Remarks for the reader, one sentence each: "The machine was busy with other work." */
  readonly notes?: readonly string[];
}

export type Settings = Readonly<Record<string, string | number | boolean>>;

export interface ReportMachine {
  /** `AMD EPYC 9554, 2 cores used` without the count. */
  readonly processor: string;
  readonly cores: number;
  readonly memoryBytes?: number;
  /** The device that computed: `wasm`, `webgpu`, `reference`. */
  readonly device: string;
  /** The GPU adapter, when one was used. */
  readonly gpu?: string;
  readonly gpuMemoryBytes?: number;
  /** `20.20.2` */
  readonly node: string;
  readonly platform?: string;
}

export interface ReportData {
  readonly kind: "text" | "task";
  /** The files, or the name of the task. */
  readonly names: readonly string[];
  /** One sentence on what the data is; of a task, what has to be learned. */
  readonly description?: string;
  /** `bytes`, or the name of a tokenizer. */
  readonly tokenizer?: string;
  readonly vocabulary?: number;
  /** Tokens of the training set; of a task, the tokens that training draws. */
  readonly tokens: number;
  readonly bytes?: number;
  readonly heldOut: readonly HeldOut[];
  /** Of a task: the accuracy of guessing, 0 to 1. */
  readonly chance?: number;
}

export interface HeldOut {
  readonly name: string;
  readonly tokens: number;
  readonly bytes?: number;
}

/** What all models have equally much of. At least one field. */
export interface ReportBudget {
  readonly parameters?: number;
  readonly tokens?: number;
  readonly minutes?: number;
}

export interface ModelReport {
  /** Unique in the report: `mamba`, `mamba (no convolution)`, `transformer`. */
  readonly name: string;
  /** The family, which decides the colour: `mamba`, `transformer`, `lstm`, `gru`, `s4d`, `h3`, `mamba-moe` ... */
  readonly architecture: string;
  /** One sentence. */
  readonly description: string;
  readonly parameters: number;
  /** Of a mixture of experts: the parameters that one token uses. */
  readonly activeParameters?: number;
  readonly config: Settings;
  /** What this model has for itself: the learning rate, and so on. */
  readonly recipe: Settings;
  readonly status: "done" | "failed" | "skipped" | "pending";
  /** Why it failed or was skipped. */
  readonly reason?: string;
  /** Trials that the learning rate was chosen by, by rate: the one of the lowest score is that of the recipe. */
  readonly tuning?: readonly TuningTrial[];
  readonly training?: TrainingReport;
  readonly quality?: QualityReport;
  /** Longer inputs than those of training, the training length included, by length. */
  readonly extrapolation?: readonly ExtrapolationPoint[];
  readonly speed?: SpeedReport;
}

/** A short training at one learning rate. */
export interface TuningTrial {
  readonly learningRate: number;
  /** Lower is better; none where the trial diverged. */
  readonly score?: number;
  /** What the score is: `held-out loss, nats per token`. */
  readonly what: string;
  /** Why there is no score. */
  readonly stopped?: string;
}

export interface TrainingReport {
  /** Length of the sequences in training. */
  readonly length: number;
  readonly batch: number;
  readonly steps: number;
  readonly tokens: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly peakMemoryBytes?: number;
  readonly curve: readonly CurvePoint[];
}

export interface CurvePoint {
  readonly step: number;
  readonly tokens: number;
  /** Seconds since training began, without evaluations. */
  readonly seconds?: number;
  /** Mean of the training loss since the last point, nats per token. */
  readonly lossNats?: number;
  /** Loss on the held-out data, nats per token. */
  readonly evalLossNats?: number;
  /** Accuracy on held-out examples of a task, 0 to 1. */
  readonly evalAccuracy?: number;
}

export interface QualityReport {
  readonly evaluations: readonly Evaluation[];
  /** Mean loss of the tokens that have so many tokens before them. */
  readonly lossByPosition?: readonly PositionPoint[];
}

export interface Evaluation {
  /** Which held-out data; the same name in all models. */
  readonly name: string;
  readonly tokens?: number;
  /** Nats per predicted token. */
  readonly lossNats?: number;
  readonly bitsPerByte?: number;
  readonly perplexity?: number;
  /** Of a task: the share of right tokens, 0 to 1. */
  readonly accuracy?: number;
}

export interface PositionPoint {
  /** Tokens before the predicted one: the middle of a bin, where several positions were averaged. */
  readonly position: number;
  readonly lossNats: number;
}

export interface ExtrapolationPoint {
  readonly length: number;
  readonly lossNats?: number;
  readonly accuracy?: number;
  /** Why this length, and all longer ones, could not be measured. */
  readonly stopped?: string;
}

export interface SpeedReport {
  /** Reading a prompt of `length` tokens at once, batch 1. */
  readonly prefill?: readonly LengthPoint[];
  /** One token, with `length` tokens of context before it, batch 1. */
  readonly decode?: readonly LengthPoint[];
  /** Decoding with many sequences side by side. */
  readonly batch?: readonly BatchPoint[];
  /** A step of training (forward, backward, update) with sequences of `length` tokens. */
  readonly training?: readonly LengthPoint[];
}

/** Either measured, or stopped: then this length and all longer ones have no numbers. */
export interface LengthPoint {
  readonly length: number;
  /** Of the whole prompt, of one decoded token, of one training step. */
  readonly seconds?: number;
  readonly tokensPerSecond?: number;
  /** Memory of the device above the weights: states or caches, activations, work space. */
  readonly memoryBytes?: number;
  readonly stopped?: string;
}

export interface BatchPoint {
  readonly batch: number;
  /** All sequences together. */
  readonly tokensPerSecond?: number;
  readonly memoryBytes?: number;
  readonly stopped?: string;
}

export interface SweepReport {
  /** How many tokens a size gets: "20 tokens a parameter". */
  readonly rule?: string;
  readonly points: readonly SweepPoint[];
  readonly fits: readonly SweepFit[];
  /** Sizes (or compute) that two architectures need for the same loss: at each loss that both reach, highest first. */
  readonly ratios: readonly SweepRatio[];
}

export interface SweepPoint {
  readonly architecture: string;
  readonly parameters: number;
  readonly tokens: number;
  /** Operations of the whole training: counted, or 6 x parameters x tokens. */
  readonly flops: number;
  readonly lossNats: number;
  readonly seconds?: number;
}

export type SweepAxis = "parameters" | "flops";

/** loss = floor + scale * x^-exponent */
export interface SweepFit {
  readonly architecture: string;
  readonly against: SweepAxis;
  readonly floor: number;
  readonly scale: number;
  readonly exponent: number;
  /** Root mean square of log(loss / fitted loss). */
  readonly error: number;
}

/** `of` needs `ratio` times as much as `to` for the loss `lossNats`, by lines between the measured points. */
export interface SweepRatio {
  readonly of: string;
  readonly to: string;
  readonly against: SweepAxis;
  readonly lossNats: number;
  readonly ratio: number;
}

export type ReferenceChart = "prefill" | "decode" | "batch" | "training" | "memory";

export interface ReferenceSeries {
  /** `PyTorch 2.9, attention (flash)` */
  readonly name: string;
  /** Where the numbers come from: a file, a paper, a machine. */
  readonly source: string;
  /**
   * The chart that shows it. prefill: seconds of a prompt of x tokens; decode: tokens/s after x tokens; batch: tokens/s
   * with x sequences; training: tokens/s with sequences of x tokens; memory: bytes at a prompt of x tokens.
   */
  readonly chart: ReferenceChart;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}
