// The report of a comparison, from its plan and what was found so far.
import type { ModelReport, Report, ReportMachine, Settings, SweepPoint } from "../report/schema.ts";
import { REPORT_VERSION } from "../report/schema.ts";
import { summariseSweep } from "../report/sweep.ts";
import { trialText } from "../report/tuning.ts";
import type { CompareData } from "./data.ts";
import type { CompareOptions } from "./options.ts";
import type { Part } from "./parts.ts";
import { atChosenRate, gather } from "./parts.ts";
import type { PlannedModel, Resolved } from "./plan.ts";
import { shortCount } from "./plan.ts";
import { meanLoss } from "./quality.ts";
import type { Comparison } from "./store-node.ts";

export interface ReportParts {
  readonly comparison: Comparison;
  readonly how: Resolved;
  readonly data: CompareData;
  readonly machine: ReportMachine;
  readonly parts: readonly Part[];
  readonly options: CompareOptions;
}

export function buildReport(from: ReportParts): Report {
  const { comparison, data, machine, options } = from;
  const { settings, models, notes } = comparison;
  const tokens = models.find(({ skipped }) => skipped === undefined)?.tokens ?? 0;
  const { parameters = settings.dModel === undefined ? models[0]?.budget : undefined, minutes } = settings;
  const sweep = sweepOf(from);
  const told = [...notes, ...sweepRates(from), ...sweepFailures(from)];
  return {
    version: REPORT_VERSION,
    title: settings.title ?? titleOf(from),
    created: comparison.created,
    command: comparison.command,
    software: options.software ?? "mamba.ts",
    machine,
    data: data.kind === "task" ? { ...data.about, tokens } : data.about,
    budget: {
      ...(parameters ? { parameters } : {}),
      ...(tokens > 0 ? { tokens } : {}),
      ...(minutes === undefined ? {} : { minutes }),
    },
    recipe: recipeOf(from.how),
    models: models.map((model) => rowOf(model, from)),
    ...(sweep ? { sweep } : {}),
    ...(options.references?.length ? { references: options.references } : {}),
    ...(told.length > 0 ? { notes: told } : {}),
  };
}

function titleOf({ comparison: { models, sweep }, data }: ReportParts): string {
  const names = [...new Set([...models, ...sweep].map(({ architecture }) => architecture))];
  const list = names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names[0];
  const on = data.about.names.length > 3 ? `${data.about.names.length} texts` : data.about.names.join(", ");
  const [first] = models;
  return `${list}${first?.budget ? ` of ${shortCount(first.budget)} parameters` : ""} on ${on}`;
}

function recipeOf({ length, batch, schedule, warmup, weightDecay, clip, precision, seed, tune }: Resolved): Settings {
  const rest = { weightDecay, clip, optimizer: "AdamW (0.9, 0.95)", precision, seed };
  const trials = tune && `trials of ${tune.share} of the tokens at ${tune.factors.join(", ")} times the default`;
  const warmupSteps = warmup ?? "a tenth, 200 at the most";
  return { length, batch, schedule, warmupSteps, ...rest, ...(trials === undefined ? {} : { learningRates: trials }) };
}

function rowOf(model: PlannedModel, { comparison: { results }, parts }: ReportParts): ModelReport {
  const { name, architecture, description, parameters, activeParameters, sizes, steps } = model;
  const { learningRate } = atChosenRate(model, results);
  const about = {
    name,
    architecture,
    description,
    parameters,
    ...(activeParameters === undefined ? {} : { activeParameters }),
    config: settingsOf({ ...sizes }),
    recipe: steps > 0 ? { learningRate, steps } : { learningRate },
  };
  if (model.skipped !== undefined)
    return { ...about, recipe: {}, config: {}, status: "skipped", reason: model.skipped };
  const { failed, ...found } = gather(model.folder, results);
  if (failed !== undefined) return { ...about, ...found, status: "failed", reason: failed };
  const isDone = parts.every((part) => part.model.folder !== model.folder || results[part.id] !== undefined);
  return { ...about, ...found, status: isDone ? "done" : "pending" };
}

function settingsOf(fields: Readonly<Record<string, unknown>>): Settings {
  const kept = Object.entries(fields).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  return Object.fromEntries(kept) as Settings;
}

function sweepOf({ comparison: { sweep, results }, how }: ReportParts): Report["sweep"] {
  if (sweep.length === 0) return undefined;
  const points = sweep.flatMap((model): SweepPoint[] => {
    const { training, quality } = gather(model.folder, results);
    if (!training || !quality) return [];
    const { architecture, parameters, activeParameters = parameters } = model;
    const { tokens, seconds } = training;
    const lossNats = meanLoss(quality.evaluations);
    return [{ architecture, parameters, tokens, flops: 6 * activeParameters * tokens, lossNats, seconds }];
  });
  const seen = new Set(sweep.map(({ architecture }) => architecture));
  const order = [...seen].flatMap((name) => points.filter(({ architecture }) => architecture === name));
  return summariseSweep(order, `${how.tokensPerParameter} tokens a parameter`);
}

/** Models of a sweep have no row; how their learning rates were found. */
function sweepRates({ comparison: { sweep, results } }: ReportParts): string[] {
  return sweep.flatMap((model) => {
    const { tuning } = gather(model.folder, results);
    if (!tuning) return [];
    const { learningRate } = atChosenRate(model, results);
    const trials = tuning.map(trialText).join(", ");
    return [`Of the sweep, ${model.name} has the learning rate ${learningRate} (${tuning[0].what}: ${trials}).`];
  });
}

/** And what there is to say of those that are missing. */
function sweepFailures({ comparison: { sweep, results } }: ReportParts): string[] {
  return sweep.flatMap(({ name, folder, skipped }) => {
    const reason = skipped ?? gather(folder, results).failed;
    return reason === undefined ? [] : [`Of the sweep, ${name} is missing: ${reason}`];
  });
}
