// The flags of `mamba compare`, and the settings that they come to.
import { InvalidArgumentError, Option } from "commander";
import type { Device } from "../../../backends/index.ts";
import { DEVICES } from "../../../backends/index.ts";
// Not from the index: the engine and what draws charts are loaded when they are needed.
import type { CompareSettings, Measurement } from "../../../compare/options.ts";
import { MEASUREMENTS, SPEED } from "../../../compare/options.ts";
import { UsageError } from "../../../core/errors.ts";
import type { TaskOptions } from "../../../data/index.ts";
import { TASKS } from "../../../data/index.ts";
import { ARCHITECTURES } from "../../../models/architectures.ts";
import type { Precision, Schedule } from "../../../train/index.ts";
import { closestName } from "../../closest.ts";
import type { NumberRule } from "../../options.ts";
import * as options from "../../options.ts";

export interface CompareFlags {
  readonly data?: string[];
  readonly heldOut?: string[];
  readonly evalFraction?: number;
  readonly separator?: string;
  readonly tokenizer?: string;
  readonly task?: string;
  readonly taskOption?: readonly string[];
  readonly architectures?: readonly string[];
  readonly parameters?: number;
  readonly dModel?: number;
  readonly layers?: number;
  readonly tokens?: number;
  readonly minutes?: number;
  readonly length?: number;
  readonly batch?: number;
  readonly lr?: Readonly<Record<string, number>>;
  readonly tune?: boolean;
  readonly tuneShare?: number;
  readonly tuneFactors?: readonly number[];
  readonly schedule?: Schedule;
  readonly warmup?: number;
  readonly weightDecay?: number;
  readonly clip?: number;
  readonly precision?: Precision;
  readonly checkpointBlocks?: boolean;
  readonly seed?: number;
  readonly only?: readonly Measurement[];
  readonly skip?: readonly Measurement[];
  readonly maxLength?: number;
  readonly maxBatch?: number;
  readonly pointSeconds?: number;
  readonly evalTokens?: number;
  readonly sweep?: readonly number[];
  readonly tokensPerParameter?: number;
  readonly references?: string;
  readonly title?: string;
  readonly quick?: boolean;
  readonly out: string;
  readonly resume?: boolean;
  readonly device?: Device;
  readonly threads?: number;
  readonly json?: boolean;
}

const COUNT: NumberRule = { least: 1, most: 2 ** 40, isWhole: true };
const POSITIVE: NumberRule = { least: 0, isAbove: true };

/** A run of about a minute on a laptop: too small to say much, large enough to see what a report holds. */
export const QUICK: CompareSettings = {
  architectures: ["mamba", "transformer"],
  parameters: 100_000,
  tokens: 250_000,
  length: 64,
  batch: 16,
  maxLength: 1024,
  maxBatch: 8,
  pointSeconds: 5,
  evalTokens: 2 ** 14,
};

/** In the order of the help. */
export function compareOptions(): Option[] {
  return [...dataOptions(), ...trainingOptions(), ...measuringOptions()];
}

function dataOptions(): Option[] {
  const { numberOption, wholeOption } = options;
  const names = ARCHITECTURES.map(({ name }) => name);
  return [
    new Option("--data <paths...>", "text files (UTF-8), or folders of *.txt files, to train on"),
    new Option("--held-out <paths...>", "measure on these files, each by its name (default: the end of each text)"),
    numberOption("--eval-fraction <share>", "share of each text that is held out (default: 0.05)", {
      ...POSITIVE,
      most: 1,
    }),
    new Option("--separator <text>", "documents in a file are separated by lines that are exactly this text"),
    new Option("--tokenizer <bytes|file>", '"bytes" (default), or a tokenizer.json'),
    new Option("--task <name>", "a synthetic task in place of texts").choices(TASKS.map(({ name }) => name)),
    new Option("--task-option <name=value>", "an option of the task, such as vocab=16; may be repeated").argParser(
      options.collect,
    ),
    listOption("--architectures <list>", `of ${names.join(", ")} (default: mamba,transformer,lstm,s4d)`, names),
    countOption("--parameters <n>", "of each model, such as 1M (default: 1M)"),
    wholeOption("--d-model <n>", "width of all models, in place of --parameters; needs --layers", COUNT),
    wholeOption("--layers <n>", "their layers", COUNT),
  ];
}

function trainingOptions(): Option[] {
  const { numberOption, wholeOption } = options;
  return [
    countOption("--tokens <n>", "that each model is trained on, such as 20M (default: 20 a parameter)"),
    numberOption("--minutes <n>", "of training for the slowest model; all get its tokens", POSITIVE),
    wholeOption("--length <n>", "tokens of a sequence in training (default: 256, or the task's)", COUNT),
    wholeOption("--batch <n>", "sequences side by side in training (default: 32)", COUNT),
    new Option("--lr <list>", "peak learning rates by name: mamba=2e-3,transformer=1e-3").argParser(parseRates),
    new Option("--tune", "find the other rates by short trainings of each model, also in a sweep"),
    numberOption("--tune-share <share>", "tokens of such a trial, of those of training (default: 0.15)", {
      ...POSITIVE,
      most: 1,
    }),
    new Option(
      "--tune-factors <list>",
      "rates of the trials, times the default (default: 0.5,1,2,4); a best one at the edge adds one beyond it",
    ).argParser(parseFactors),
    new Option("--schedule <name>", "of the learning rates (default: cosine; of tasks constant)").choices([
      "constant",
      "cosine",
    ]),
    wholeOption("--warmup <n>", "steps of linear warm-up (default: a tenth, 200 at the most)"),
    numberOption("--weight-decay <x>", "of AdamW (default: 0.1; of tasks 0)", { least: 0 }),
    numberOption("--clip <norm>", "largest norm of all gradients together (default: 1)", POSITIVE),
    new Option("--precision <name>", "f32 (default), or mixed: float16 inside the blocks, on a GPU").choices([
      "f32",
      "mixed",
    ]),
    new Option("--checkpoint-blocks", "compute blocks again for their gradients: less memory, more time"),
    wholeOption("--seed <n>", "of weights and batches (default: 0)", { least: Number.MIN_SAFE_INTEGER }),
  ];
}

function measuringOptions(): Option[] {
  const { numberOption, wholeOption } = options;
  const kinds = `${MEASUREMENTS.join(", ")}; speed: the last four`;
  return [
    new Option("--only <list>", `measure only these: ${kinds}`).argParser(parseKinds).conflicts("skip"),
    new Option("--skip <list>", "measure all but these").argParser(parseKinds),
    countOption(
      "--max-length <n>",
      "longest input (default: 16 times --length, of tasks 2^20; of speed 2^14, on a GPU 2^17)",
    ),
    wholeOption("--max-batch <n>", "most sequences side by side when decoding (default: 32, on a GPU 256)", COUNT),
    numberOption("--point-seconds <n>", "most seconds of one point of a chart (default: 60)", POSITIVE),
    countOption("--eval-tokens <n>", "most tokens of a held-out text that are scored (default: 2^17, on a GPU 2^20)"),
    new Option("--sweep <list>", "loss against size: 0.3M,1M,3M; alone unless --parameters is given").argParser(
      parseCounts("--sweep"),
    ),
    numberOption(
      "--tokens-per-parameter <n>",
      "where --tokens does not say it, and in a sweep (default: 20)",
      POSITIVE,
    ),
    new Option("--references <file>", "a JSON list of measurements of other software, for the charts"),
    new Option("--title <text>", "of the report"),
    new Option("--quick", "a small run of about a minute; without --data or --task it takes a task"),
    new Option("--out <folder>", "folder of the report").default("report"),
    new Option("--resume", "go on with the comparison in --out, with its settings"),
    new Option("--device <device>", `${options.DEVICE_HELP} (default: auto)`).choices(DEVICES),
    options.threadsOption(),
    options.jsonOption(),
  ];
}

/** The settings that flags come to. Throws UsageError. */
export function settingsOf(flags: CompareFlags): CompareSettings {
  const { out: _, resume, json: __, references: ___, quick, only, skip, lr, taskOption, ...same } = flags;
  if (resume && quick) throw new UsageError("compare: --resume has the settings of the comparison; leave --quick out.");
  const given = {
    ...same,
    measurements: only ?? (skip && MEASUREMENTS.filter((kind) => !skip.includes(kind))),
    learningRates: lr,
    taskOptions: taskOption && parseTaskOptions(taskOption),
  };
  const kept = options.defined(given);
  if (!quick) return kept;
  const own = flags.data === undefined && flags.task === undefined ? QUICK_TASK : {};
  const preset: CompareSettings = { ...QUICK, ...own };
  const { parameters, tokens, ...rest } = preset;
  const isSized = kept.dModel !== undefined || kept.sweep !== undefined;
  return {
    ...rest,
    ...(isSized ? {} : { parameters }),
    ...(kept.minutes !== undefined || kept.sweep !== undefined ? {} : { tokens }),
    ...kept,
  };
}

/** What --quick takes where no data are given: small enough to be learned at once. */
const QUICK_TASK: CompareSettings = { task: "induction-heads", taskOptions: { vocab: 8 }, length: 16, batch: 32 };

/** `1M`, `0.3M`, `20k`, `2^20`, `1000`. Throws UsageError. */
export function parseCount(text: string, name: string): number {
  const power = /^2\^(\d{1,2})$/.exec(text);
  const scaled = /^(\d*\.?\d+(?:e\d+)?)\s*([kmb])$/i.exec(text);
  const unit = { k: 1e3, m: 1e6, b: 1e9 }[scaled?.[2].toLowerCase() ?? ""];
  if (power) return options.parseNumber(String(2 ** Number(power[1])), name, COUNT);
  if (scaled && unit) return options.parseNumber(String(Math.round(Number(scaled[1]) * unit)), name, COUNT);
  try {
    return options.parseNumber(text, name, COUNT);
  } catch {
    throw new UsageError(`${name} must be a whole number such as 5000, 20k, 1.5M or 2^20, got "${text}".`);
  }
}

function countOption(flags: string, help: string): Option {
  return new Option(flags, help).argParser((text: string) => parseCount(text, flags.split(" ")[0]));
}

function parseCounts(name: string): (text: string) => number[] {
  return (text) => text.split(",").map((part) => parseCount(part.trim(), name));
}

function listOption(flags: string, help: string, names: readonly string[]): Option {
  return new Option(flags, help).argParser((text: string) =>
    text.split(",").map((part) => known(part.trim(), names, flags.split(" ")[0])),
  );
}

function known(name: string, names: readonly string[], option: string): string {
  if (names.includes(name)) return name;
  const near = closestName(name, names);
  throw new UsageError(
    `${option}: there is no ${JSON.stringify(name)}. ${near ? `Did you mean ${near}?` : `There are ${names.join(", ")}.`}`,
  );
}

function parseKinds(text: string): Measurement[] {
  const names = [...MEASUREMENTS, "speed"];
  return text.split(",").flatMap((part): Measurement[] => {
    const name = known(part.trim(), names, "--only and --skip");
    return name === "speed" ? [...SPEED] : [name as Measurement];
  });
}

function parseRates(text: string): Record<string, number> {
  const names = ARCHITECTURES.map(({ name }) => name);
  return Object.fromEntries(
    text.split(",").map((part) => {
      const [name, value, more] = part.split("=").map((one) => one.trim());
      if (value === undefined || more !== undefined)
        throw new InvalidArgumentError("Give name=rate, with commas between, such as mamba=2e-3.");
      return [known(name, names, "--lr"), options.parseNumber(value, `--lr ${name}`, POSITIVE)];
    }),
  );
}

function parseFactors(text: string): number[] {
  return text.split(",").map((part) => options.parseNumber(part, "--tune-factors", POSITIVE));
}

function parseTaskOptions(given: readonly string[]): TaskOptions {
  return Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf("=");
      if (at < 1) throw new UsageError(`--task-option must be name=value, such as vocab=16, got "${text}".`);
      const value = text.slice(at + 1);
      return [text.slice(0, at), /^\d+$/.test(value) ? Number(value) : value];
    }),
  );
}
