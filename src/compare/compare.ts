// compare: several architectures under the same conditions, from a budget to a report. Node only.
import { join } from "node:path";
import type { Backend } from "../backends/backend.ts";
import { openDevice } from "../backends/index.ts";
import { ConfigError } from "../core/errors.ts";
import type { AnyModel } from "../models/auto.ts";
import type { Report } from "../report/schema.ts";
import { writeReport, writeReportFile } from "../report/write-node.ts";
import type { Context } from "./context.ts";
import { newModel, savedModel } from "./context.ts";
import type { CompareData } from "./data.ts";
import { readData } from "./data-node.ts";
import { reasonOf } from "./limit.ts";
import { reportMachine } from "./machine-node.ts";
import type { CompareOptions, CompareResult } from "./options.ts";
import type { Part, PartResult } from "./parts.ts";
import { atChosenRate, Forecast, isInVain, partsOf } from "./parts.ts";
import type { PlannedModel, Resolved } from "./plan.ts";
import { planModels, planSweep, resolveSettings, shortCount, withTokens } from "./plan.ts";
import { measureExtrapolation, measureQuality } from "./quality.ts";
import { buildReport } from "./report.ts";
import { measureBatch, measureDecode, measurePrefill } from "./speed.ts";
import type { Comparison } from "./store-node.ts";
import { checkNew, readComparison, resumedSettings, writeComparison } from "./store-node.ts";
import { trainingRate, trainModel } from "./training.ts";
import { measureTrainingSpeed } from "./training-speed.ts";
import { tuneRate } from "./tuning-node.ts";

/** How long each model's speed is measured to find what minutes come to. */
const RATE_SECONDS = 3;

const CHARTS_EVERY_MS = 30_000;

/**
 * Compares architectures: chooses sizes for a budget, trains each on the same tokens in the same order, measures what was
 * asked for, and writes report.json, charts and index.html into `out`, anew after each part. What fails or cannot be
 * measured says why in the report, and the rest goes on. A comparison that was stopped goes on with `resume`: parts that
 * are done are not done again, and a training that was under way continues from its checkpoint.
 * @throws UsageError, ConfigError (settings), DataError (texts, the folder), BackendError (no such device); the signal's
 *   reason, where it comes before there is anything to save
 */
export async function compare(options: CompareOptions): Promise<CompareResult> {
  const run = await Run.open(options);
  return run.finish();
}

class Run {
  readonly #options: CompareOptions;
  readonly #backend: Backend;
  readonly #data: CompareData;
  readonly #how: Resolved;
  readonly #parts: readonly Part[];
  readonly #forecast: Forecast;
  readonly #seconds: Record<string, number>;
  #comparison: Comparison;
  #drawnAt = performance.now();
  #loaded: { readonly planned: PlannedModel; readonly model: AnyModel } | undefined;

  private constructor(
    options: CompareOptions,
    comparison: Comparison,
    { backend, data, how }: Pick<Context, "backend" | "data" | "how">,
  ) {
    this.#options = options;
    this.#comparison = comparison;
    this.#backend = backend;
    this.#data = data;
    this.#how = how;
    this.#seconds = { ...comparison.seconds };
    this.#parts = partsOf(comparison.models, comparison.sweep, how);
    this.#forecast = new Forecast(this.#parts, this.#seconds, { device: backend.name, how });
  }

  /** Begins a comparison, or goes on with the one in the folder. */
  static async open(options: CompareOptions): Promise<Run> {
    const { out, resume = false } = options;
    const before = resume ? await readComparison(out) : undefined;
    if (!before) await checkNew(out);
    const settings = before ? resumedSettings(before, options.settings, out) : options.settings;
    const { device, threads } = settings;
    const backend = await openDevice(device ?? "auto", threads === undefined ? {} : { threads });
    if (before && before.device !== backend.name)
      throw new ConfigError(
        `compare: ${out} was begun on the device ${before.device}, and this is ${backend.name}: their times say nothing about each other. Resume with device ${before.device}.`,
      );
    const data = await readData(settings);
    const how = resolveSettings(settings, data, backend);
    if (before) {
      // What failed is tried again: the machine may have had other work.
      const kept = Object.entries(before.results).filter(([, { failed }]) => failed === undefined);
      return new Run(options, { ...before, settings, results: Object.fromEntries(kept) }, { backend, data, how });
    }
    const models = planModels(settings, how, data);
    const sweep = planSweep(settings, how, data);
    const command = options.command ?? "compare()";
    const created = new Date().toISOString();
    const kept = { version: 1, created, command, device: backend.name, settings, models, sweep, notes: [] } as const;
    const run = new Run(options, { ...kept, results: {}, seconds: {} }, { backend, data, how });
    return settings.minutes === undefined ? run.#with(models, []) : run.#withMinutes(settings.minutes);
  }

  async finish(): Promise<CompareResult> {
    const { signal, onLine } = this.#options;
    await this.#write();
    try {
      for (const part of this.#parts) {
        const { results } = this.#comparison;
        if (results[part.id] || isInVain(part, results)) continue;
        const started = performance.now();
        const result = await this.#do(part, started);
        if (!result) return await this.#conclude(true);
        this.#seconds[part.id] = (performance.now() - started) / 1000;
        if (result.failed !== undefined) onLine?.(`${part.model.name}: ${part.kind} failed: ${result.failed}`);
        const now = this.#comparison.results;
        this.#comparison = { ...this.#comparison, results: { ...now, [part.id]: result }, seconds: this.#seconds };
        await this.#write();
      }
    } catch (error) {
      if (!signal?.aborted) throw error;
      return this.#conclude(true);
    } finally {
      this.#unload();
    }
    return this.#conclude(false);
  }

  async #conclude(stopped: boolean): Promise<CompareResult> {
    await this.#write(true);
    return { report: this.#report(), stopped };
  }

  /** What a part finds; undefined when the signal ended it. */
  async #do(part: Part, started: number): Promise<PartResult | undefined> {
    const { signal } = this.#options;
    signal?.throwIfAborted();
    const context = this.#context((share, note = "") => this.#tell(part, share, note, started));
    context.tell(0);
    try {
      return await this.#measure(part, context);
    } catch (error) {
      if (signal?.aborted) throw error;
      const failed = reasonOf(error);
      if (failed === undefined) throw error;
      this.#unload();
      return { failed };
    }
  }

  async #measure({ kind, model: planned, isSweep }: Part, context: Context): Promise<PartResult | undefined> {
    if (kind === "tuning") {
      this.#unload();
      const tuning = await this.#tune(planned, context);
      return tuning && { tuning };
    }
    if (kind === "training") {
      this.#unload();
      const chosen = atChosenRate(planned, this.#comparison.results);
      const training = await trainModel(context, chosen, this.#folder(planned));
      return training && { training };
    }
    if (kind === "training-speed") {
      this.#unload();
      return { speed: { training: await measureTrainingSpeed(context, planned) } };
    }
    const model = await this.#load(planned, context);
    if (kind === "quality") return { quality: await measureQuality(context, model, !isSweep) };
    if (kind === "extrapolation") return { extrapolation: await measureExtrapolation(context, model) };
    const { activations } = model;
    if (this.#how.precision === "mixed") model.activations = "f16";
    try {
      if (kind === "prefill") return { speed: { prefill: await measurePrefill(context, model) } };
      if (kind === "decode") return { speed: { decode: await measureDecode(context, model) } };
      return { speed: { batch: await measureBatch(context, model) } };
    } finally {
      model.activations = activations;
    }
  }

  /** Trials are kept one by one: a comparison that is resumed goes on after them. */
  async #tune(planned: PlannedModel, context: Context): Promise<PartResult["tuning"]> {
    const { folder } = planned;
    const before = this.#comparison.trials ?? {};
    return tuneRate(context, planned, {
      folder: join(this.#folder(planned), "trials"),
      done: before[folder] ?? [],
      keep: async (trials) => {
        this.#comparison = { ...this.#comparison, trials: { ...before, [folder]: trials } };
        await writeComparison(this.#options.out, this.#comparison);
      },
    });
  }

  #context(tell: Context["tell"]): Context {
    const { signal, onLine } = this.#options;
    const line = (text: string): void => onLine?.(text);
    return { backend: this.#backend, data: this.#data, how: this.#how, signal, tell, line };
  }

  #folder({ folder }: PlannedModel): string {
    return join(this.#options.out, "runs", folder);
  }

  /** The trained model; where nothing was to be learned, its first weights. */
  async #load(planned: PlannedModel, context: Context): Promise<AnyModel> {
    if (this.#loaded?.planned === planned) return this.#loaded.model;
    this.#unload();
    const { training } = this.#comparison.results[`${planned.folder}/training`] ?? {};
    const model = training
      ? await savedModel(context, planned, join(this.#folder(planned), "last"))
      : newModel(context, planned);
    this.#loaded = { planned, model };
    return model;
  }

  #unload(): void {
    this.#loaded?.model.dispose();
    this.#loaded = undefined;
  }

  #tell(part: Part, share: number, note: string, started: number): void {
    const { results } = this.#comparison;
    const done = this.#parts.filter((one) => results[one.id] || isInVain(one, results)).length;
    const elapsed = (performance.now() - started) / 1000;
    const secondsLeft = this.#forecast.secondsLeft(part, share, elapsed, results);
    const name = `${part.model.name}: ${part.kind}`;
    this.#options.onProgress?.({ done, total: this.#parts.length, part: name, share, note, secondsLeft });
  }

  #report(): Report {
    const machine = reportMachine(this.#backend);
    const from = { comparison: this.#comparison, parts: this.#parts, how: this.#how };
    return buildReport({ ...from, machine, data: this.#data, options: this.#options });
  }

  /** The report after each part; its charts, which take some seconds to draw, now and then, and at the end. */
  async #write(isLast = false): Promise<void> {
    const { out } = this.#options;
    await writeComparison(out, this.#comparison);
    if (isLast || performance.now() - this.#drawnAt > CHARTS_EVERY_MS) {
      await writeReport(this.#report(), out);
      this.#drawnAt = performance.now();
    } else await writeReportFile(this.#report(), out);
  }

  /** The same comparison with these models, and what is to be said of it. */
  #with(models: readonly PlannedModel[], notes: readonly string[]): Run {
    const [backend, data, how] = [this.#backend, this.#data, this.#how];
    const all = [...notes, ...notesOf([...models, ...this.#comparison.sweep], data, backend)];
    return new Run(this.#options, { ...this.#comparison, models, notes: all }, { backend, data, how });
  }

  /** The same comparison, where all get the tokens that the slowest model reads in so many minutes. */
  async #withMinutes(minutes: number): Promise<Run> {
    const context = this.#context(() => undefined);
    let slowest: { readonly name: string; readonly rate: number } | undefined;
    for (const planned of this.#comparison.models) {
      if (planned.skipped !== undefined) continue;
      try {
        const rate = await trainingRate(context, { ...planned, steps: 1 }, RATE_SECONDS);
        // A rate that was cut short is none, and nothing is lost yet.
        this.#options.signal?.throwIfAborted();
        context.line(`${planned.name}: ${Math.round(rate).toLocaleString("en-US")} tokens/s of training`);
        if (!slowest || rate < slowest.rate) slowest = { name: planned.name, rate };
      } catch (error) {
        // It fails again when its turn comes, and says why in the report.
        if (reasonOf(error) === undefined) throw error;
      }
    }
    const tokens = Math.max(1, Math.round((slowest?.rate ?? 0) * 60 * minutes));
    const models = this.#comparison.models.map((model) => withTokens(model, tokens, this.#how));
    const note = `All models train on the tokens that the slowest of them, ${slowest?.name ?? "none"}, reads in ${minutes} min.`;
    context.line(note);
    return this.#with(models, [note]);
  }
}

function notesOf(models: readonly PlannedModel[], data: CompareData, backend: Backend): string[] {
  const notes: string[] = [];
  const tokens = Math.max(0, ...models.map((model) => model.tokens));
  if (data.kind === "text" && tokens > 1.5 * data.about.tokens)
    notes.push(`Training reads its text ${(tokens / data.about.tokens).toFixed(1)} times over.`);
  const mixtures = models.filter(({ activeParameters }) => activeParameters !== undefined);
  if (mixtures.length > 0)
    notes.push(
      `Of ${mixtures.map(({ name }) => name).join(" and ")} the budget counts what one token uses: ${mixtures.map((one) => shortCount(one.activeParameters!)).join(" and ")} parameters.`,
    );
  if (backend.note !== undefined) notes.push(backend.note);
  return notes;
}
