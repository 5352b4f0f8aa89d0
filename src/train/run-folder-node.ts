// The folder of a run: metrics.jsonl, last/ (a checkpoint that also resumes) and best/ (a checkpoint). Node only.
import * as fs from "node:fs/promises";
import * as nodePath from "node:path";
import { CheckpointError, DataError, UsageError } from "../core/errors.ts";
import { openSafetensors, openSource, savedArrays, writeFileAtomic, writeSafetensors } from "../io/index.ts";
import type { FileSource, TensorReader, TensorToWrite } from "../io/index.ts";
import type { LanguageModel, ModelState } from "../nn/language-model.ts";
import type { MetricsLine } from "./metrics-node.ts";
import { appendMetrics, cutMetrics } from "./metrics-node.ts";
import type { AdamW } from "./optimizer.ts";
import type { BestEvaluation } from "./options.ts";
import { exists, recoverFolder, replaceFolder } from "./replace-folder-node.ts";
import type { RunState } from "./run-state.ts";
import { parseRunState } from "./run-state.ts";

const STATE_FILE = "training.json";
const OPTIMIZER_FILE = "optimizer.safetensors";
/** The recurrent state between two batches, of a run that carries it. */
const CARRIED_FILE = "carried-state.safetensors";

/** Reads what `last` of a run's folder knows, for a caller who must set its data to `position` before it resumes. */
export async function readRunState(outputDir: string): Promise<RunState> {
  const folder = nodePath.join(outputDir, "last");
  await recoverFolder(folder);
  if (!(await exists(folder)))
    throw new DataError(`${outputDir}: there is no run to resume (no folder "last"). Begin one without resume.`);
  const file = nodePath.join(folder, STATE_FILE);
  const source = await openSource(folder);
  return parseRunState(await source.readText(STATE_FILE), file);
}

/** Where a run writes. */
export class RunFolder {
  readonly last: string;
  readonly #best: string;
  readonly #metrics: string;
  readonly #saveModel: (folder: string) => Promise<void>;

  constructor(outputDir: string, saveModel: (folder: string) => Promise<void>) {
    this.last = nodePath.join(outputDir, "last");
    this.#best = nodePath.join(outputDir, "best");
    this.#metrics = nodePath.join(outputDir, "metrics.jsonl");
    this.#saveModel = saveModel;
  }

  /** Makes the folder for a new run. Throws UsageError when it holds one. */
  async begin(): Promise<void> {
    const folder = nodePath.dirname(this.last);
    await recoverFolder(this.last);
    if (await exists(this.last))
      throw new UsageError(`${folder}: holds a run already. Resume it, choose another folder, or remove this one.`);
    await fs.mkdir(folder, { recursive: true }).catch((error: Error) => {
      throw new DataError(`${folder}: cannot be made: ${error.message}. Choose another folder.`, { cause: error });
    });
    await cutMetrics(this.#metrics, -1);
  }

  /** Prepares to continue after a step: later lines of metrics.jsonl go. */
  async continueFrom(step: number): Promise<void> {
    await recoverFolder(this.#best);
    await cutMetrics(this.#metrics, step);
  }

  async log(line: MetricsLine): Promise<void> {
    await appendMetrics(this.#metrics, line);
  }

  /** Writes `last`: the model's files, the optimizer's state, the carried state, and training.json. */
  async saveLast(state: RunState, optimizer: AdamW, carried: readonly TensorToWrite[] | undefined): Promise<void> {
    await replaceFolder(this.last, async (folder) => {
      await this.#saveModel(folder);
      await writeSafetensors(nodePath.join(folder, OPTIMIZER_FILE), optimizer.toTensors(), await optimizer.metadata());
      if (carried) await writeSafetensors(nodePath.join(folder, CARRIED_FILE), carried, { what: "mamba.ts state" });
      await writeFileAtomic(nodePath.join(folder, STATE_FILE), `${JSON.stringify(state, null, 2)}\n`);
    });
  }

  /** Writes `best`: the model's files and evaluation.json. */
  async saveBest(best: BestEvaluation): Promise<void> {
    await replaceFolder(this.#best, async (folder) => {
      await this.#saveModel(folder);
      await writeFileAtomic(nodePath.join(folder, "evaluation.json"), `${JSON.stringify(best, null, 2)}\n`);
    });
  }

  async loadOptimizer(optimizer: AdamW): Promise<void> {
    const file = nodePath.join(this.last, OPTIMIZER_FILE);
    await this.#withTensors(OPTIMIZER_FILE, (reader) => optimizer.load(reader, file));
  }

  /** The carried state, made by the model; undefined when none was saved. */
  async loadCarried<S extends ModelState>(model: LanguageModel<S>): Promise<S | undefined> {
    const file = nodePath.join(this.last, CARRIED_FILE);
    if (!(await exists(file))) return undefined;
    return this.#withTensors(CARRIED_FILE, (reader) => model.stateFrom(savedArrays(reader), file));
  }

  async #withTensors<T>(name: string, use: (reader: TensorReader) => Promise<T>): Promise<T> {
    const source: FileSource = await openSource(this.last);
    if (!(await source.has(name)))
      throw new CheckpointError(
        `${this.last}: ${name} is missing, so the run cannot be resumed. Use the folder as a model to begin a new one.`,
      );
    const file = await source.open(name);
    try {
      return await use(await openSafetensors(file));
    } finally {
      await file.close();
    }
  }
}
