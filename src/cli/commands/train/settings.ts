// The settings of a training run: one table, from which come the flags, the keys of a JSON file, and their checks.
import type { Device } from "../../../backends/index.ts";
import { DEVICES } from "../../../backends/index.ts";
import { ARCHITECTURES } from "../../../models/architectures.ts";
import type { Precision } from "../../../train/index.ts";
import type { NumberRule } from "../../options.ts";
import { DEVICE_HELP, THREADS_HELP } from "../../options.ts";

export interface TrainSettings {
  data?: string[];
  separator?: string;
  evalFraction?: number;
  evalData?: string[];
  out?: string;
  model?: string;
  arch?: string;
  dModel?: number;
  layers?: number;
  dState?: number;
  dConv?: number;
  expand?: number;
  dtRank?: number;
  headDim?: number;
  kvHeads?: number;
  dMlp?: number;
  dHidden?: number;
  experts?: number;
  topK?: number;
  tokenizer?: string;
  untied?: boolean;
  steps?: number;
  batch?: number;
  length?: number;
  lr?: number;
  minLr?: number;
  schedule?: "cosine" | "constant";
  warmup?: number;
  weightDecay?: number;
  beta1?: number;
  beta2?: number;
  clip?: number;
  accumulate?: number;
  carryState?: boolean;
  precision?: Precision;
  checkpointBlocks?: boolean;
  seed?: number;
  evalEvery?: number;
  saveEvery?: number;
  logEvery?: number;
  resume?: boolean;
  device?: Device;
  threads?: number;
}

export type SettingName = keyof TrainSettings;

type Kind =
  | { readonly kind: "number"; readonly rule: NumberRule; readonly value: string }
  | { readonly kind: "text"; readonly value: string; readonly choices?: readonly string[] }
  | { readonly kind: "list"; readonly value: string }
  | { readonly kind: "flag" };

export type Setting = Kind & { readonly help: string };

export const DEFAULT_STEPS = 1000;

const POSITIVE: NumberRule = { least: 0, isAbove: true };
const COUNT: NumberRule = { least: 1, most: 2 ** 31 - 1, isWhole: true };
const SHARE: NumberRule = { least: 0, most: 1 };

function number(help: string, rule: NumberRule, value = "n"): Setting {
  return { kind: "number", rule, value, help };
}

function text(help: string, value: string, choices?: readonly string[]): Setting {
  return choices ? { kind: "text", value, choices, help } : { kind: "text", value, help };
}

/** In the order of the help. */
export const SETTINGS: Readonly<Record<SettingName, Setting>> = {
  data: { kind: "list", value: "paths", help: "text files (UTF-8), or folders of *.txt files" },
  separator: text("documents in a file are separated by lines that are exactly this text", "text"),
  evalFraction: number(
    "share of every document's end that is held out for evaluation (default: 0.05; 0: none)",
    SHARE,
    "share",
  ),
  evalData: { kind: "list", value: "paths", help: "evaluate on these files instead" },
  out: text("folder of the run: last/, best/, metrics.jsonl", "folder"),
  model: text("fine-tune this checkpoint: a folder, a name on the hub, or a URL", "model"),
  arch: text(
    "architecture of a new model (default: mamba)",
    "name",
    ARCHITECTURES.map(({ name }) => name),
  ),
  dModel: number("width of a new model (default: 128)", COUNT),
  layers: number("its layers (default: 4)", COUNT),
  dState: number("states a channel (default: 16)", { ...COUNT, most: 256 }),
  dConv: number("taps of the convolution (default: 4)", { least: 2, most: 4, isWhole: true }),
  expand: number("inner width = expand times width (default: 2)", POSITIVE, "x"),
  dtRank: number("rank of the step size's projection (default: a sixteenth of the width)", COUNT),
  headDim: number("width of a head of attention (default: 64, 32 for narrow models)", COUNT),
  kvHeads: number("heads of keys and values (default: as many as of queries)", COUNT),
  dMlp: number("inner width of an MLP (default: 8/3 of the width)", COUNT),
  dHidden: number("hidden width of an LSTM or GRU (default: the width)", COUNT),
  experts: number("experts of a mixture (default: 8)", COUNT),
  topK: number("experts that a token asks (default: 2)", COUNT),
  tokenizer: text('"bytes" (default), or a tokenizer.json', "bytes|file"),
  untied: { kind: "flag", help: "a head of its own, not the embedding's transpose" },
  steps: number(`updates in all (default: ${DEFAULT_STEPS})`, COUNT),
  batch: number("sequences side by side (default: 8)", COUNT),
  length: number("tokens of a sequence (default: 256)", COUNT),
  lr: number("highest learning rate (default: 0.002)", POSITIVE, "rate"),
  minLr: number("where the cosine ends (default: 1e-5)", { least: 0 }, "rate"),
  schedule: text("of the learning rate (default: cosine)", "name", ["cosine", "constant"]),
  warmup: number("steps of linear warm-up (default: a tenth of the steps, 100 at the most)", { ...COUNT, least: 0 }),
  weightDecay: number("of AdamW (default: 0.1)", { least: 0 }, "x"),
  beta1: number("of AdamW (default: 0.9)", { least: 0, most: 1 }, "x"),
  beta2: number("of AdamW (default: 0.95)", { least: 0, most: 1 }, "x"),
  clip: number("largest norm of all gradients together (default: 1)", POSITIVE, "norm"),
  accumulate: number("batches of one update (default: 1)", COUNT),
  carryState: { kind: "flag", help: "read documents in order, each sequence from the state that the last one left" },
  precision: text("f32 (default), or mixed: float16 inside the blocks, on a GPU", "name", ["f32", "mixed"]),
  checkpointBlocks: { kind: "flag", help: "compute blocks again for their gradients: less memory, more time" },
  seed: number("of weights and batches (default: 0)", {
    least: Number.MIN_SAFE_INTEGER,
    most: Number.MAX_SAFE_INTEGER,
    isWhole: true,
  }),
  evalEvery: number("steps between evaluations (default: a tenth of the steps)", COUNT),
  saveEvery: number("steps between saves of last/ (default: a tenth of the steps)", COUNT),
  logEvery: number("steps between lines of metrics.jsonl (default: 10)", COUNT),
  resume: { kind: "flag", help: "continue the run in --out, with its settings" },
  device: text(`${DEVICE_HELP} (default: auto)`, "device", DEVICES),
  threads: number(THREADS_HELP, { least: 1, most: 64, isWhole: true }),
};
