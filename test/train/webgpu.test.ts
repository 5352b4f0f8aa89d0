// train on a GPU: the numbers of wasm, steps under way, memory that stays, runs that resume, and what diverges.
import * as fs from "node:fs/promises";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { ConfigError, DataError } from "../../src/core/errors.ts";
import { createRandom } from "../../src/core/random.ts";
import type { BatchPosition, BatchSource, TokenData } from "../../src/data/index.ts";
import { streams } from "../../src/data/index.ts";
import { openSource } from "../../src/io/index.ts";
import { loadMambaWeights, saveMamba } from "../../src/models/mamba/checkpoint.ts";
import type { MambaModel } from "../../src/models/mamba/model.ts";
import { MambaState } from "../../src/models/mamba/state.ts";
import type { TrainOptions, TrainProgress } from "../../src/train/options.ts";
import { train } from "../../src/train/trainer.ts";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../support/backends.ts";
import { expectClose } from "../support/compare.ts";
import { tinyModel } from "../support/tiny-model.ts";

type Options = TrainOptions<MambaState>;

const VOCAB = 16;
const random = createRandom(2);
const text: TokenData = {
  tokens: Uint8Array.from({ length: 900 }, () => random.integer(VOCAB)),
  documentStarts: Int32Array.of(0, 333),
  bytes: 900,
};
const open = (position?: BatchPosition): BatchSource => streams(text, { batch: 2, length: 12, position });

function newModel(backend: Backend): MambaModel {
  return tinyModel(backend, { dModel: 16, vocabSize: VOCAB, dState: 4 });
}

/** A run of some steps with a carried state, two batches a step. */
async function run(
  model: MambaModel,
  change: Partial<Options> = {},
): Promise<{ told: TrainProgress[]; weights: number[]; stopped: boolean; step: number }> {
  const told: TrainProgress[] = [];
  const { onProgress, ...rest } = change;
  const { stopped, step } = await train<MambaState>({
    model,
    data: open,
    steps: 8,
    learningRate: 0.01,
    warmupSteps: 2,
    accumulate: 2,
    carryState: true,
    onProgress(progress) {
      told.push(progress);
      onProgress?.(progress);
    },
    ...rest,
  });
  const weights = await Promise.all(model.parameters().map(({ tensor }) => tensor.read()));
  return { told, weights: weights.flatMap((data) => [...data]), stopped, step };
}

const losses = (told: readonly TrainProgress[]): number[] => told.map(({ loss }) => loss);

it("refuses mixed precision where there is no float16", async () => {
  for (const backend of [reference, await wasmBackend()])
    await expect(run(newModel(backend), { precision: "mixed" })).rejects.toThrow(
      `precision mixed needs the device webgpu, and the model is on ${backend.name}`,
    );
  await expect(run(newModel(reference), { precision: "half" as "mixed" })).rejects.toThrow(ConfigError);
  if (!hasGpu) return;
  const portable = newModel(await gpuBackend({ without: ["shader-f16"] }));
  await expect(run(portable, { precision: "mixed" })).rejects.toThrow(/needs shader-f16/);
});

describe.skipIf(!hasGpu)("train on a GPU", () => {
  let backend: WebGpuBackend;
  let root = "";
  beforeAll(async () => {
    backend = await gpuBackend();
  });
  beforeEach(async () => {
    root = await fs.mkdtemp(path.join(os.tmpdir(), "mamba-train-"));
  });
  afterEach(() => fs.rm(root, { recursive: true }));

  it("does what wasm does, tells of every step in order, and leaves no memory behind", async () => {
    const wasm = newModel(await wasmBackend());
    const gpu = newModel(backend);
    const live: number[] = [];
    const onProgress = (): void => void live.push(backend.memory().liveBytes);
    const [expected, actual] = [await run(wasm), await run(gpu, { onProgress })];
    expect(actual.told.map(({ step, tokens }) => [step, tokens])).toEqual(
      expected.told.map(({ step, tokens }) => [step, tokens]),
    );
    expectClose("losses", losses(actual.told), losses(expected.told), 1e-5);
    // Adam's division by tiny numbers magnifies rounding.
    expectClose("weights", actual.weights, expected.weights, 1e-4);
    expect(actual.told.every(({ tokensPerSecond }) => tokensPerSecond > 0)).toBe(true);
    expect(new Set(live).size).toBe(1);
    wasm.dispose();
    gpu.dispose();
    expect(backend.memory().liveBytes).toBe(0);
  });

  it("finishes the steps that are under way when it is asked to stop, and resumes from there", async () => {
    const precisions = backend.has("shader-f16") ? (["f32", "mixed"] as const) : (["f32"] as const);
    for (const precision of precisions) {
      const inFolder = (name: string, model: MambaModel): Partial<Options> => ({
        precision,
        lossScaling: { initial: 2 ** 10, growthSteps: 3 },
        outputDir: path.join(root, `${name}-${precision}`),
        saveModel: (folder) => saveMamba(model, folder),
        loadModel: async (folder) => loadMambaWeights(model, await openSource(folder)),
      });
      const straight = newModel(backend);
      const whole = await run(straight, inFolder("straight", straight));
      const [first, second] = [newModel(backend), newModel(backend)];
      const abort = new AbortController();
      const stop = ({ step }: TrainProgress): void => (step === 2 ? abort.abort() : undefined);
      const half = await run(first, { ...inFolder("halves", first), signal: abort.signal, onProgress: stop });
      expect(half.stopped).toBe(true);
      expect(half.told).toHaveLength(half.step);
      expect(half.step).toBeGreaterThan(2);
      expect(half.step).toBeLessThan(8);
      const rest = await run(second, { ...inFolder("halves", second), resume: true });
      expect(losses([...half.told, ...rest.told])).toEqual(losses(whole.told));
      expect(rest.weights).toEqual(whole.weights);
      expect(rest.told.at(-1)!.lossScale).toBe(precision === "mixed" ? 2 ** 12 : undefined);
      for (const model of [straight, first, second]) model.dispose();
    }
  });

  it("stops when the loss is not finite, before that reaches the weights", async () => {
    const model = newModel(backend);
    model.backbone.normF.weight.tensor.write(new Float32Array(16).fill(Number.NaN));
    const before = await model.backbone.embeddings.weight.tensor.read();
    await expect(run(model)).rejects.toThrow(DataError);
    await expect(run(model)).rejects.toThrow(/loss is NaN at step 1\./);
    expect(await model.backbone.embeddings.weight.tensor.read()).toEqual(before);
    model.dispose();
  });
});
