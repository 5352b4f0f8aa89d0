// The settings of a task's run: from flags, from the run that is resumed, and the defaults.
import { join } from "node:path";
import type { Device } from "../../../backends/index.ts";
import { ConfigError, UsageError } from "../../../core/errors.ts";
import type { SyntheticTask, TaskOptions } from "../../../data/index.ts";
import { createTask } from "../../../data/index.ts";
import type { ArchitectureOptions } from "../../../models/architectures.ts";
import type { Precision, Schedule } from "../../../train/index.ts";
import { closestName } from "../../closest.ts";
import { readText } from "../../files.ts";
import { defined } from "../../options.ts";
import type { TaskRecord } from "./record.ts";

/** What a run was asked for; all may be left out. */
export interface TaskFlags extends TaskOptions {
  readonly model?: string;
  readonly dModel?: number;
  readonly layers?: number;
  readonly modelOption?: readonly string[];
  readonly length?: number;
  readonly curriculum?: readonly number[];
  readonly bar?: number;
  readonly steps?: number;
  readonly maxMinutes?: number;
  readonly batch?: number;
  readonly lr?: number;
  readonly schedule?: Schedule;
  readonly warmup?: number;
  readonly weightDecay?: number;
  readonly beta2?: number;
  readonly clip?: number;
  readonly stopAt?: number;
  readonly stopChecks?: number;
  readonly evalEvery?: number;
  readonly evalExamples?: number;
  readonly lengths?: readonly number[];
  readonly examples?: number;
  readonly precision?: Precision;
  readonly checkpointBlocks?: boolean;
  readonly seed?: number;
  readonly out?: string;
  readonly saveEvery?: number;
  readonly resume?: boolean;
  readonly device?: Device;
  readonly threads?: number;
}

/** What decides the numbers that a run computes, every default filled in; in task.json. */
export interface TaskSettings {
  readonly task: string;
  readonly taskOptions: Readonly<Record<string, number | string>>;
  readonly model: string;
  readonly dModel: number;
  readonly layers: number;
  readonly modelOptions: Readonly<Record<string, unknown>>;
  /** Ascending; training ends at the last. */
  readonly curriculum: readonly number[];
  /** Accuracy at which training goes on to the next length of the curriculum. */
  readonly bar: number;
  readonly steps: number;
  readonly batch: number;
  readonly lr: number;
  readonly schedule: Schedule;
  readonly warmup: number;
  readonly weightDecay: number;
  readonly beta2: number;
  readonly clip: number;
  /** Accuracy at which training ends; 0: never. */
  readonly stopAt: number;
  /** Checks in a row that must reach it. */
  readonly stopChecks: number;
  readonly evalEvery: number;
  readonly evalExamples: number;
  readonly precision: Precision;
  readonly checkpointBlocks: boolean;
  readonly seed: number;
}

/** Settings, and what is made of them at once, so that mistakes show before the work. */
export interface TaskPlan {
  readonly settings: TaskSettings;
  readonly task: SyntheticTask;
  /** Lengths to examine. */
  readonly lengths: readonly number[];
  /** Of a run that is resumed. */
  readonly before: TaskRecord | undefined;
}

/** What --model-option may name; an architecture takes what it needs of them. */
const MODEL_OPTIONS: readonly (keyof ArchitectureOptions)[] = [
  ...(["dState", "dConv", "dtRank", "expand", "headDim", "nKvHeads", "dMlp", "dHidden"] as const),
  ...(["nExperts", "topK", "s4dInit", "tieEmbeddings"] as const),
];

/** Of the run that is resumed these may change; `lengths` and where it runs are no settings at all. */
const FREE: ReadonlySet<string> = new Set(["steps", "evalEvery", "checkpointBlocks", "stopAt", "stopChecks"]);

/** @throws UsageError, ConfigError (a setting), DataError (no run to resume) */
export async function planTaskRun(name: string, flags: TaskFlags): Promise<TaskPlan> {
  if (flags.resume && flags.out === undefined)
    throw new UsageError("task run: --resume needs --out, the run's folder.");
  if (flags.saveEvery !== undefined && flags.out === undefined)
    throw new UsageError("task run: --save-every needs --out, the folder to save in.");
  const before = flags.resume ? await readRecord(flags.out!) : undefined;
  const settings = before ? resumed(name, before.settings, flags) : fresh(name, flags);
  const task = createTask(name, settings.taskOptions);
  for (const length of settings.curriculum) task.checkLength(length);
  const lengths = flags.lengths ?? task.testLengths(settings.curriculum.at(-1)!);
  for (const length of lengths) task.checkLength(length);
  return { settings, task, lengths, before };
}

function fresh(name: string, flags: TaskFlags): TaskSettings {
  const { vocab, tokens, pairs, modulus, target } = flags;
  const task = createTask(name, defined({ vocab, tokens, pairs, modulus, target }));
  const { steps = 10_000, batch = 64, lr = 0.002 } = flags;
  const settings: TaskSettings = {
    task: name,
    taskOptions: optionsOf(task, pairs),
    model: flags.model ?? "mamba",
    dModel: flags.dModel ?? 64,
    layers: flags.layers ?? 2,
    modelOptions: parseModelOptions(flags.modelOption ?? []),
    curriculum: stagesOf(flags, flags.length ?? flags.curriculum?.at(-1) ?? task.defaultLength),
    bar: flags.bar ?? 0.95,
    steps,
    batch,
    lr,
    schedule: flags.schedule ?? "constant",
    warmup: flags.warmup ?? 0,
    weightDecay: flags.weightDecay ?? 0,
    beta2: flags.beta2 ?? 0.95,
    clip: flags.clip ?? 1,
    stopAt: flags.stopAt ?? 0.999,
    stopChecks: flags.stopChecks ?? 3,
    evalEvery: flags.evalEvery ?? Math.max(1, Math.min(250, Math.floor(steps / 10))),
    evalExamples: flags.evalExamples ?? 256,
    precision: flags.precision ?? "f32",
    checkpointBlocks: flags.checkpointBlocks ?? false,
    seed: flags.seed ?? 0,
  };
  return settings;
}

/** Without the number of pairs that follows from the length. */
function optionsOf(task: SyntheticTask, pairs: number | undefined): TaskSettings["taskOptions"] {
  const { pairs: _, ...options } = task.options;
  return pairs === undefined ? options : { ...options, pairs };
}

/** The run's own settings, with those that may change as the flags say. */
function resumed(name: string, was: TaskSettings, flags: TaskFlags): TaskSettings {
  if (was.task !== name)
    throw new ConfigError(`task run: the run in ${flags.out} is one of ${was.task}, got ${name}. Name that task.`);
  const now = fresh(name, { ...asFlags(was), ...flags });
  for (const [field, value] of Object.entries(now)) {
    const before = was[field as keyof TaskSettings];
    if (!FREE.has(field) && JSON.stringify(before) !== JSON.stringify(value))
      throw new ConfigError(
        `task run: cannot resume ${flags.out}: ${field} was ${JSON.stringify(before)} and is ${JSON.stringify(value)} now. Resume with what the run began with, or begin a new run in another folder.`,
      );
  }
  return now;
}

function asFlags({ taskOptions, modelOptions, ...same }: TaskSettings): TaskFlags {
  const modelOption = Object.entries(modelOptions).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return { ...taskOptions, ...same, modelOption };
}

/** Ascending lengths that end with the one to be learned. */
function stagesOf({ curriculum = [] }: TaskFlags, length: number): number[] {
  const stages = [...new Set([...curriculum, length])];
  if (stages.some((stage, i) => i > 0 && stage <= stages[i - 1]))
    throw new UsageError(
      `--curriculum must be ascending lengths up to --length (${length}), got ${curriculum.join(",")}.`,
    );
  return stages;
}

/** `dState=32`, `s4dInit="s4d-lin"` or `s4dInit=s4d-lin`: what is JSON is taken as such, else as a text. */
function parseModelOptions(given: readonly string[]): Record<string, unknown> {
  const parse = (text: string): unknown => {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  };
  return Object.fromEntries(
    given.map((option) => {
      const at = option.indexOf("=");
      if (at < 1) throw new UsageError(`--model-option must be name=value, such as dState=32, got "${option}".`);
      const name = option.slice(0, at);
      if (!MODEL_OPTIONS.some((known) => known === name)) {
        const near = closestName(name, MODEL_OPTIONS);
        throw new UsageError(
          `--model-option: there is no option ${name}. ${near ? `Did you mean ${near}?` : `There are ${MODEL_OPTIONS.join(", ")}.`}`,
        );
      }
      return [name, parse(option.slice(at + 1))];
    }),
  );
}

async function readRecord(out: string): Promise<TaskRecord> {
  const file = join(out, "task.json");
  const text = await readText(file, "--resume");
  try {
    const record = JSON.parse(text) as TaskRecord;
    if (record.what === "mamba task" && typeof record.settings === "object") return record;
  } catch {
    // Told below.
  }
  throw new ConfigError(`${file}: is not the record of a task's run. Begin a new run in another folder.`);
}
