// mamba task report: the runs of one task beside each other, as a page with charts.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DataError, UsageError } from "../../../core/errors.ts";
import type { SyntheticTask } from "../../../data/index.ts";
import { createTask } from "../../../data/index.ts";
import { findArchitecture } from "../../../models/architectures.ts";
import type { CurvePoint as ReportPoint, ModelReport, Report, Settings } from "../../../report/schema.ts";
import { REPORT_VERSION } from "../../../report/schema.ts";
import { readVersion } from "../../version.ts";
import type { TaskRecord } from "./record.ts";

/**
 * The report of runs that `mamba task run --out` left.
 * @throws DataError (a folder without a task.json), UsageError (runs of different tasks)
 */
export async function reportTasks(folders: readonly string[], title?: string): Promise<Report> {
  const records = await Promise.all(folders.map(readRecord));
  const [first] = records;
  const other = records.find((record) => taskOf(record) !== taskOf(first));
  if (other)
    throw new UsageError(`task report: all runs must be of one task, got ${taskOf(first)} and ${taskOf(other)}.`);
  const task = createTask(first.settings.task, first.settings.taskOptions);
  const lengths = [...new Set(records.map(({ settings }) => settings.curriculum.at(-1)!))];
  const { machine, device, adapter } = first;
  return {
    version: REPORT_VERSION,
    title: title ?? `${task.name}: ${[...new Set(records.map(({ settings }) => settings.model))].join(", ")}`,
    created: new Date().toISOString(),
    command: records.map(({ command }) => command).join("\n"),
    software: `mamba.ts ${readVersion()}`,
    machine: {
      processor: machine.cpu,
      cores: machine.cores,
      memoryBytes: machine.memoryBytes,
      device,
      ...(adapter ? { gpu: adapter } : {}),
      node: machine.node,
      platform: machine.platform,
    },
    data: {
      kind: "task",
      names: [task.name],
      description: `${capital(task.description)}.`,
      vocabulary: task.vocabSize,
      tokens: Math.max(...records.map(({ tokens }) => tokens)),
      heldOut: lengths.map((length) => ({ name: `length ${length}`, tokens: task.sequenceLength(length) })),
    },
    budget: { tokens: Math.max(...records.map(({ tokens }) => tokens)) },
    recipe: recipeOf(first),
    models: records.map((record, i) => rowOf(record, nameOf(record, records, i), task)),
    notes: [
      "Each model was trained on its own number of examples, which its row says; all examples are fresh and random.",
    ],
  };
}

async function readRecord(folder: string): Promise<TaskRecord> {
  const path = join(folder, "task.json");
  let record: Partial<TaskRecord>;
  try {
    record = JSON.parse(await readFile(path, "utf8")) as Partial<TaskRecord>;
  } catch (cause) {
    throw new DataError(`${path}: ${(cause as Error).message}. Give folders that mamba task run --out made.`, {
      cause,
    });
  }
  if (record.what === "mamba task") return record as TaskRecord;
  throw new DataError(`${path}: is not the record of a task's run. Give folders that mamba task run --out made.`);
}

function taskOf({ settings }: TaskRecord): string {
  return `${settings.task} ${JSON.stringify(settings.taskOptions)}`;
}

/** The architecture, and of several runs of one what they differ in. */
function nameOf({ settings }: TaskRecord, records: readonly TaskRecord[], index: number): string {
  const same = records.filter((record) => record.settings.model === settings.model);
  if (same.length === 1) return settings.model;
  const differing = (["dModel", "lr", "batch", "seed"] as const).filter((field) =>
    same.some((record) => record.settings[field] !== settings[field]),
  );
  const what = differing.map((field) => `${field} ${settings[field]}`).join(", ");
  return `${settings.model} (${what || `run ${index + 1}`})`;
}

function rowOf(record: TaskRecord, name: string, task: SyntheticTask): ModelReport {
  const { settings, parameters, step, tokens, seconds, accuracy, stoppedAt } = record;
  const length = settings.curriculum.at(-1)!;
  const trained = accuracy.find((found) => found.length === length);
  const { batch, lr: learningRate, schedule, seed, curriculum } = settings;
  return {
    name,
    architecture: settings.model,
    description: findArchitecture(settings.model).description,
    parameters,
    config: { dModel: settings.dModel, nLayer: settings.layers, ...(settings.modelOptions as Settings) },
    recipe: { learningRate, batch, schedule, seed, curriculum: curriculum.join(", "), steps: step },
    status: "done",
    training: {
      length,
      batch,
      steps: step,
      tokens,
      seconds,
      tokensPerSecond: tokens / seconds,
      curve: curveOf(record, task),
    },
    quality: {
      evaluations: trained
        ? [
            {
              name: `length ${length}`,
              tokens: trained.answers,
              lossNats: trained.loss,
              accuracy: trained.tokenAccuracy,
            },
          ]
        : [],
    },
    extrapolation: [
      ...accuracy.map((found) => ({ length: found.length, accuracy: found.tokenAccuracy, lossNats: found.loss })),
      ...(stoppedAt ? [{ length: stoppedAt.length, stopped: stoppedAt.error }] : []),
    ],
  };
}

/** With the tokens up to each point, of which each step between two points has as many as the length then. */
function curveOf({ curve, settings }: TaskRecord, task: SyntheticTask): ReportPoint[] {
  let tokens = 0;
  let before = 0;
  return curve.map(({ step, length, loss: lossNats, tokenAccuracy: evalAccuracy, seconds }) => {
    tokens += (step - before) * settings.batch * task.sequenceLength(length);
    before = step;
    return { step, tokens, seconds, lossNats, evalAccuracy };
  });
}

function recipeOf({ settings }: TaskRecord): Settings {
  const { weightDecay, beta2, clip, precision } = settings;
  return { optimizer: `AdamW (0.9, ${beta2})`, weightDecay, clip, precision, loss: "on the answers alone" };
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
