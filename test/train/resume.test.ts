// Runs in a folder: checkpoints, metrics, and continuing bit for bit.
import * as fs from "node:fs/promises";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { wasmBackend } from "../support/backends.ts";
import { expectClose } from "../support/compare.ts";
import { tinyModel } from "../support/tiny-model.ts";
import type { WasmBackend } from "../../src/backends/wasm/index.ts";
import { CheckpointError, ConfigError, DataError, UsageError } from "../../src/core/errors.ts";
import { createRandom } from "../../src/core/random.ts";
import type { BatchPosition, BatchSource, TokenData } from "../../src/data/index.ts";
import { randomWindows, streams } from "../../src/data/index.ts";
import { openSource } from "../../src/io/index.ts";
import { loadMamba, loadMambaWeights, saveMamba } from "../../src/models/mamba/checkpoint.ts";
import type { MambaModel } from "../../src/models/mamba/model.ts";
import { MambaState } from "../../src/models/mamba/state.ts";
import type { TrainOptions, TrainProgress, TrainResult } from "../../src/train/options.ts";
import { train } from "../../src/train/trainer.ts";

type Options = TrainOptions<MambaState>;

const VOCAB = 16;
let backend: WasmBackend;
let root = "";
beforeAll(async () => {
  backend = await wasmBackend();
});
beforeEach(async () => {
  root = await fs.mkdtemp(path.join(os.tmpdir(), "mamba-train-"));
});
afterEach(() => fs.rm(root, { recursive: true }));

const random = createRandom(2);
const text: TokenData = {
  tokens: Uint8Array.from({ length: 900 }, () => random.integer(VOCAB)),
  documentStarts: Int32Array.of(0, 333),
  bytes: 900,
};
const evaluation = { tokens: text.tokens.subarray(0, 100), bytes: 100, window: 20 };
const SHAPE = { batch: 2, length: 12 };
const fromStreams = (position?: BatchPosition): BatchSource => streams(text, { ...SHAPE, position });
const fromWindows = (position?: BatchPosition): BatchSource => randomWindows(text, { ...SHAPE, seed: 7, position });

function newModel(): MambaModel {
  return tinyModel(backend, { dModel: 16, vocabSize: VOCAB, dState: 4 });
}

/** A run in a folder of its own: its result, and the weights it ends with. */
async function run(
  name: string,
  change: Partial<Options>,
  model: MambaModel = newModel(),
): Promise<{ result: TrainResult; weights: number[] }> {
  try {
    const result = await train<MambaState>({
      model,
      data: fromWindows,
      steps: 6,
      learningRate: 0.01,
      warmupSteps: 2,
      outputDir: path.join(root, name),
      saveModel: (folder) => saveMamba(model, folder),
      loadModel: async (folder) => loadMambaWeights(model, await openSource(folder)),
      settings: { seed: 5, model: { dModel: 16 } },
      ...change,
    });
    return { result, weights: model.parameters().flatMap(({ tensor }) => Array.from(tensor.readNow())) };
  } finally {
    model.dispose();
  }
}

/** Makes a run stop after a step. */
function stopAfter(step: number): Partial<Options> {
  const abort = new AbortController();
  return { signal: abort.signal, onProgress: (progress) => (progress.step === step ? abort.abort() : undefined) };
}

interface Line {
  step: number;
  loss?: number;
  evaluation?: object;
  settings?: object;
}

async function linesOf(name: string): Promise<Line[]> {
  const text = await fs.readFile(path.join(root, name, "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

describe("a resumed run", () => {
  it.each<[string, Partial<Options>]>([
    ["random windows", { evaluation, evalEvery: 2 }],
    ["accumulation", { accumulate: 3 }],
    ["a carried state", { data: fromStreams, carryState: true, evaluation }],
    ["a carried state, accumulation", { data: fromStreams, carryState: true, accumulate: 2, evaluation, evalEvery: 3 }],
  ])("equals one that never stopped, bit for bit: %s", async (_, options) => {
    const straight = await run("straight", options);
    const half = await run("halves", { ...options, ...stopAfter(3) });
    expect(half.result).toMatchObject({ step: 3, stopped: true });
    const whole = await run("halves", { ...options, resume: true });
    expectClose("weights", whole.weights, straight.weights, 0);
    expect(whole.result).toEqual(straight.result);
    const told = async (name: string): Promise<Line[]> =>
      (await linesOf(name)).flatMap(({ step, loss, evaluation, settings }) =>
        settings ? [] : [{ step, ...(loss === undefined ? {} : { loss }), ...(evaluation ? { evaluation } : {}) }],
      );
    expect(await told("halves")).toEqual(await told("straight"));
    expect(backend.memory().liveBytes).toBe(0);
  });

  it("goes back to the last save after a kill, and drops what was told since", async () => {
    const straight = await run("straight", {});
    const killed = run("killed", {
      saveEvery: 2,
      onProgress({ step }) {
        if (step === 5) throw new Error("killed");
      },
    });
    await expect(killed).rejects.toThrow("killed");
    await fs.appendFile(path.join(root, "killed", "metrics.jsonl"), '{"step":5,"los');
    const resumed = await run("killed", { resume: true });
    expectClose("weights", resumed.weights, straight.weights, 0);
    const steps = (await linesOf("killed")).filter(({ loss }) => loss !== undefined).map(({ step }) => step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("may be made longer", async () => {
    const straight = await run("straight", { schedule: "constant" });
    await run("longer", { schedule: "constant", steps: 3, saveEvery: 1 });
    const longer = await run("longer", { schedule: "constant", resume: true, saveEvery: 4 });
    expectClose("weights", longer.weights, straight.weights, 0);
    await expect(run("longer", { schedule: "constant", resume: true, steps: 5 })).rejects.toThrow(
      /steps must be at least 6/,
    );
  });

  it("makes up for the evaluation that the signal cut short", async () => {
    const abort = new AbortController();
    const options = { evaluation, evalEvery: 3 };
    const half = await run("halves", {
      ...options,
      signal: abort.signal,
      onProgress: ({ step }) => step === 3 && abort.abort(),
    });
    expect(half.result.evaluation).toBeUndefined();
    const straight = await run("straight", options);
    const whole = await run("halves", { ...options, resume: true });
    expect(whole.result).toEqual(straight.result);
  });

  it.each<[Partial<Options>, string]>([
    [{ settings: { seed: 6, model: { dModel: 16 } } }, "seed was 5 and is 6 now"],
    [{ settings: { seed: 5, model: { dModel: 32 } } }, "model.dModel was 16 and is 32 now"],
    [{ settings: { seed: 5, model: { dModel: 16 }, added: 1 } }, "added was not given and is 1 now"],
    [{ accumulate: 2 }, "accumulate was 1 and is 2 now"],
    [{ learningRate: 0.02 }, "learningRate was 0.01 and is 0.02 now"],
    [{ data: () => fromStreams() }, "data was "],
    [{ data: fromWindows() }, "the data must continue at"],
  ])("refuses %j, and leaves the run alone", async (change, message) => {
    await run("half", stopAfter(2));
    const before = await fs.readFile(path.join(root, "half", "metrics.jsonl"), "utf8");
    await expect(run("half", { ...change, resume: true })).rejects.toThrow(ConfigError);
    await expect(run("half", { ...change, resume: true })).rejects.toThrow(message);
    expect(await fs.readFile(path.join(root, "half", "metrics.jsonl"), "utf8")).toBe(before);
  });

  it("refuses damaged files by name", async () => {
    await run("half", stopAfter(2));
    const last = path.join(root, "half", "last");
    const optimizer = path.join(last, "optimizer.safetensors");
    await fs.truncate(optimizer, 100);
    await expect(run("half", { resume: true })).rejects.toThrow(CheckpointError);
    await fs.rm(optimizer);
    await expect(run("half", { resume: true })).rejects.toThrow(/optimizer.safetensors is missing/);
    for (const damaged of ['{"version":1', '{"version":2}', '{"version":1,"step":-1}', "[]"]) {
      await fs.writeFile(path.join(last, "training.json"), damaged);
      await expect(run("half", { resume: true })).rejects.toThrow(CheckpointError);
    }
    await expect(run("nowhere", { resume: true })).rejects.toThrow(DataError);
    expect(backend.memory().liveBytes).toBe(0);
  });
});

describe("a run's folder", () => {
  it("holds last and best, which load as checkpoints, and metrics", async () => {
    // So small a rate that the last step is the best.
    const learningRate = 1e-4;
    const { weights, result } = await run("run", { learningRate, evaluation, evalEvery: 2, saveEvery: 2, logEvery: 3 });
    expect(result.best!.step).toBe(6);
    expect((await fs.readdir(path.join(root, "run"))).sort()).toEqual(["best", "last", "metrics.jsonl"]);
    for (const name of ["last", "best"]) {
      const model = await loadMamba(await openSource(path.join(root, "run", name)), { backend, trainable: true });
      const loaded = model.parameters().flatMap(({ tensor }) => Array.from(tensor.readNow()));
      expectClose("weights", loaded, weights, 0);
      model.dispose();
    }
    const best = JSON.parse(await fs.readFile(path.join(root, "run", "best", "evaluation.json"), "utf8")) as object;
    expect(best).toEqual(result.best);
    const lines = await linesOf("run");
    expect(lines[0]).toMatchObject({ step: 0, steps: 6, device: "wasm", threads: 2, settings: { seed: 5 } });
    expect(lines.filter(({ loss }) => loss !== undefined).map(({ step }) => step)).toEqual([3, 6]);
    expect(lines.filter(({ evaluation }) => evaluation).map(({ step }) => step)).toEqual([2, 4, 6]);
  });

  it("is not begun anew over a run", async () => {
    await run("run", stopAfter(1));
    await expect(run("run", {})).rejects.toThrow(UsageError);
    await expect(run("run", {})).rejects.toThrow(/holds a run already/);
  });

  it("keeps the last good checkpoint when the loss is not finite, and names it", async () => {
    const last = path.join(root, "run", "last");
    const model = newModel();
    const onProgress = ({ step }: TrainProgress): void => {
      if (step === 3) model.backbone.normF.weight.tensor.write(new Float32Array(16).fill(Number.NaN));
    };
    const spoiled = run("run", { saveEvery: 2, onProgress }, model);
    await expect(spoiled).rejects.toThrow(`The checkpoint of step 2 is kept in ${last}`);
    const state = JSON.parse(await fs.readFile(path.join(last, "training.json"), "utf8")) as { step: number };
    expect(state.step).toBe(2);
  });

  it("is as it was when a save fails", async () => {
    await run("run", { steps: 2 });
    const saveModel = (): Promise<void> => Promise.reject(new DataError("the disk is full"));
    await expect(run("run", { resume: true, saveModel, evaluation: undefined })).rejects.toThrow("the disk is full");
    expect((await fs.readdir(path.join(root, "run"))).sort()).toEqual(["last", "metrics.jsonl"]);
    const resumed = await run("run", { resume: true });
    expect(resumed.result.step).toBe(6);
  });
});
