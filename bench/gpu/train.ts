// Cases of training: steps of a whole run by wall time, one step by GPU time, and where that goes.
import type { Backend } from "../../src/backends/backend.ts";
import { ReferenceBackend } from "../../src/backends/reference/index.ts";
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { Random } from "../../src/core/random.ts";
import { createRandom } from "../../src/core/random.ts";
import type { Batch, BatchSource } from "../../src/data/index.ts";
import type { MambaOptions } from "../../src/models/mamba/config.ts";
import { mambaConfig } from "../../src/models/mamba/config.ts";
import { initializeMamba } from "../../src/models/mamba/init.ts";
import { MambaModel } from "../../src/models/mamba/model.ts";
import { addGradients } from "../../src/train/gradients.ts";
import { AdamW } from "../../src/train/optimizer.ts";
import type { Precision } from "../../src/train/index.ts";
import { train } from "../../src/train/index.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeByKernel, timeOnGpu } from "./case.ts";

interface Setting {
  readonly name: string;
  readonly model: MambaOptions;
  readonly batch: number;
  readonly length: number;
  readonly precision: Precision;
  readonly checkpointBlocks?: boolean;
}

const WARM_UPS = 4;
const STEPS = 6;
const POOL = 1 << 20;

const M130 = { dModel: 768, nLayer: 24, vocabSize: 50280 };
/** The size of the model that comes with the package. */
const BYTES = { dModel: 192, nLayer: 6, vocabSize: 256 };

const SETTINGS: readonly Setting[] = [
  { name: "train 130m mixed B8 L2048", model: M130, batch: 8, length: 2048, precision: "mixed" },
  {
    name: "train 130m mixed checkpoint-blocks B8 L2048",
    model: M130,
    batch: 8,
    length: 2048,
    precision: "mixed",
    checkpointBlocks: true,
  },
  { name: "train 130m f32 B2 L2048", model: M130, batch: 2, length: 2048, precision: "f32" },
  { name: "train bytes 1.5M mixed B16 L512", model: BYTES, batch: 16, length: 512, precision: "mixed" },
  { name: "train bytes 1.5M f32 B16 L512", model: BYTES, batch: 16, length: 512, precision: "f32" },
];

export const TRAIN_CASES: readonly GpuCase[] = [
  { name: "train check", tags: ["train", "self-test"], run: checkTraining },
  ...SETTINGS.map((setting) => ({
    name: setting.name,
    tags: ["train"],
    run: (backend: WebGpuBackend) => measure(backend, setting),
  })),
];

/** Sizes that matrix units take. */
const SMALL = { model: { dModel: 64, nLayer: 2, vocabSize: 128 }, batch: 2, length: 64 };

/** Losses of a small model's first steps against those of the reference: the largest difference, of either precision. */
async function checkTraining(backend: WebGpuBackend): Promise<Numbers> {
  const losses = async (on: Backend, precision: Precision): Promise<number[]> => {
    const setting: Setting = { name: "", ...SMALL, precision };
    const model = new MambaModel(mambaConfig(setting.model));
    initializeMamba(model, on, createRandom(3));
    const told: number[] = [];
    const data = randomBatches(setting);
    const how = { steps: 10, learningRate: 1e-3, schedule: "constant", precision } as const;
    await train({ model, data, ...how, onProgress: ({ loss }) => told.push(loss) });
    model.dispose();
    return told;
  };
  const expected = await losses(new ReferenceBackend(), "f32");
  const worst = (actual: readonly number[]): number =>
    Math.max(...actual.map((loss, i) => Math.abs(loss - expected[i])));
  const mixed = backend.has("shader-f16") ? worst(await losses(backend, "mixed")) : "no shader-f16";
  return { "first loss": expected[0], "last loss": expected[9], f32: worst(await losses(backend, "f32")), mixed };
}

async function measure(backend: WebGpuBackend, setting: Setting): Promise<readonly Numbers[]> {
  const begin = performance.now();
  const model = new MambaModel(mambaConfig(setting.model));
  initializeMamba(model, backend, pooledRandom());
  await backend.finish();
  const initialised = performance.now();
  const data = randomBatches(setting);
  const run = await timeRun(model, data, setting);
  const step = await timeStep(backend, model, data, setting);
  const { peakBytes, pooledBytes = 0 } = backend.memory();
  model.dispose();
  return [
    { ...run, ...step.whole, "peak GiB": peakBytes / 2 ** 30, "pooled GiB": pooledBytes / 2 ** 30 },
    { parameters: model.parameterCount, "initialise s": (initialised - begin) / 1000 },
    step.kernels,
  ];
}

/** Wall time of steps of a real run, after some of warm-up. */
async function timeRun(model: MambaModel, data: BatchSource, setting: Setting): Promise<Record<string, number>> {
  const { precision, checkpointBlocks = false, batch, length } = setting;
  const times: number[] = [];
  let last = { loss: 0, lossScale: 1 };
  await train({
    model,
    data,
    steps: WARM_UPS + STEPS,
    learningRate: 1e-4,
    schedule: "constant",
    precision,
    checkpointBlocks,
    onProgress({ loss, lossScale = 1 }) {
      times.push(performance.now());
      last = { loss, lossScale };
    },
  });
  const ms = (times.at(-1)! - times[WARM_UPS - 1]) / STEPS;
  return { "tokens/s": (1000 * batch * length) / ms, "wall ms": ms, ...last };
}

/** GPU time of one step, and of its kernels. */
async function timeStep(
  backend: WebGpuBackend,
  model: MambaModel,
  data: BatchSource,
  { precision, checkpointBlocks = false }: Setting,
): Promise<{ whole: Record<string, number>; kernels: Record<string, string> }> {
  const parameters = model.namedParameters();
  const optimizer = new AdamW(parameters, {}, precision === "mixed" ? {} : undefined);
  model.activations = precision === "mixed" ? "f16" : "f32";
  const batches = [data.next()];
  const body = (): void => {
    const { lossScale } = optimizer;
    const how = { carryState: false, ignoreIndex: -100, checkpointBlocks, lossScale };
    addGradients(model, [...parameters.values()], batches, undefined, how).loss.catch(() => undefined);
    optimizer.step(1e-4);
  };
  const { ms } = await timeOnGpu(backend, body, { runs: 3, warmUps: 1 });
  const encoding = performance.now();
  body();
  backend.submit();
  const host = performance.now() - encoding;
  await backend.finish();
  const kernels = await timeByKernel(backend, body);
  optimizer.dispose();
  return { whole: { "GPU ms": ms, "host ms": host }, kernels };
}

/** The same tokens again and again: what is measured is speed. */
function randomBatches({ model, batch, length }: Setting): BatchSource {
  const random = createRandom(1);
  const size = batch * length;
  const text = Int32Array.from({ length: size + 1 }, () => random.integer(model.vocabSize));
  const next = (): Batch => ({
    tokens: text.slice(0, size),
    targets: text.slice(1),
    documentStarts: new Uint8Array(size),
    batch,
    length,
  });
  return { description: "random", position: { kind: "streams", source: "random", step: 0 }, next };
}

/** Numbers from a pool, over and over: 130 million are made in a second or two. */
function pooledRandom(): Random {
  const random = createRandom(0);
  const uniforms = Float64Array.from({ length: POOL }, () => random.uniform());
  const normals = Float64Array.from({ length: POOL }, () => random.normal());
  let at = 0;
  const next = (): number => (at = (at + 1) & (POOL - 1));
  return { uniform: () => uniforms[next()], normal: () => normals[next()], integer: () => next(), state: [] };
}
