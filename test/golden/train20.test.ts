// Twenty steps of AdamW, as PyTorch made them in float64: losses, gradient norms, and the weights they end with.
import { expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { Batch, BatchSource } from "../../src/data/index.ts";
import { mambaConfig } from "../../src/models/mamba/config.ts";
import { MambaModel } from "../../src/models/mamba/model.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";
import type { MambaState } from "../../src/models/mamba/state.ts";
import type { TrainOptions, TrainProgress } from "../../src/train/index.ts";
import { train } from "../../src/train/index.ts";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../support/backends.ts";
import { expectClose } from "../support/compare.ts";
import type { Golden } from "../support/fixtures.ts";
import { readGolden } from "../support/fixtures.ts";

const STEPS = 20;
const BATCH = 4;
const LENGTH = 32;

/** The fixture's name of a parameter (state-spaces dialect). */
function fixtureName(name: string): string {
  return name.replace("embeddings", "embedding");
}

function modelOf(tensors: ReadonlyMap<string, Golden>, backend: Backend): MambaModel {
  const model = new MambaModel(mambaConfig({ dModel: 48, nLayer: 3, vocabSize: 64, dState: 16, dtRank: 3 }));
  for (const [name, parameter] of model.namedParameters())
    parameter.assign(tensorFrom(backend, tensors.get(fixtureName(name))!.data, parameter.shape));
  return model;
}

/** data: [20, 4, 33] token ids; a step's inputs are the first 32 of each row, its targets the last 32. */
function batchesOf(data: Golden["data"]): BatchSource {
  let step = 0;
  const cut = (shift: number): Int32Array =>
    Int32Array.from({ length: BATCH * LENGTH }, (_, i) => {
      const row = step * BATCH + Math.floor(i / LENGTH);
      return data[row * (LENGTH + 1) + (i % LENGTH) + shift];
    });
  return {
    description: "golden",
    position: { kind: "streams", source: "golden", step: 0 },
    next(): Batch {
      const documentStarts = new Uint8Array(BATCH * LENGTH);
      const batch = { tokens: cut(0), targets: cut(1), documentStarts, batch: BATCH, length: LENGTH };
      step++;
      return batch;
    },
  };
}

const OPENERS = { reference: () => reference, wasm: () => wasmBackend(), webgpu: () => gpuBackend() };

/** Trains the fixture's model. */
async function run(
  tensors: ReadonlyMap<string, Golden>,
  backend: Backend,
  change: Partial<TrainOptions<MambaState>> = {},
): Promise<{ model: MambaModel; told: TrainProgress[] }> {
  const model = modelOf(tensors, backend);
  const told: TrainProgress[] = [];
  await train({
    model,
    data: batchesOf(tensors.get("__fx.data")!.data),
    steps: STEPS,
    learningRate: 1e-3,
    schedule: "constant",
    onProgress: (progress) => told.push(progress),
    ...change,
  });
  return { model, told };
}

it.each([
  { device: "reference", checkpointBlocks: false },
  { device: "wasm", checkpointBlocks: false },
  { device: "wasm", checkpointBlocks: true },
  ...(hasGpu ? [{ device: "webgpu" as const, checkpointBlocks: true }] : []),
] as const)("twenty steps of AdamW as in PyTorch: %j", async ({ device, checkpointBlocks }) => {
  const backend = await OPENERS[device]();
  const { tensors } = await readGolden("golden/train20_mamba1_adamw.safetensors");
  const expected = (name: string): Golden["data"] => tensors.get(`__fx.${name}`)!.data;
  const { model, told } = await run(tensors, backend, { checkpointBlocks });
  // float32 throughout on wasm and webgpu; the fixture itself is rounded to float32.
  const tolerance = device === "reference" ? 1e-6 : 1e-4;
  expect(told.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
  const losses = told.map(({ loss }) => loss);
  const norms = told.map(({ gradNorm }) => gradNorm);
  expectClose("losses", losses, expected("losses"), tolerance);
  expectClose("gradient norms", norms, expected("gradnorms"), tolerance);
  for (const [key, { tensor }] of model.namedParameters())
    expectClose(key, await tensor.readNative(), expected(`final.${fixtureName(key)}`), tolerance);
  model.dispose();
});

it.skipIf(!hasGpu)("mixed precision stays near, and recovers from an overflow", async () => {
  const backend = await gpuBackend();
  if (!backend.has("shader-f16")) return;
  const { tensors } = await readGolden("golden/train20_mamba1_adamw.safetensors");
  const expected = tensors.get("__fx.losses")!.data;
  // float16 rounds activations by 2^-11 = 5e-4; so do losses, of which rounding errors average out.
  const plain = await run(tensors, backend, { precision: "mixed" });
  expectClose(
    "losses",
    plain.told.map(({ loss }) => loss),
    expected,
    1e-3,
  );
  expect(plain.told.every(({ gradNorm, lossScale }) => Number.isFinite(gradNorm) && lossScale === 65536)).toBe(true);
  expect(plain.model.activations).toBe("f32");
  plain.model.dispose();
  // No gradient fits at first: steps are left out until one does, then training goes as before, some steps late.
  const lossScaling = { initial: 2 ** 34, growthSteps: 8 };
  const { model, told } = await run(tensors, backend, { precision: "mixed", lossScaling });
  const skipped = told.findIndex(({ gradNorm }) => Number.isFinite(gradNorm));
  expect(skipped).toBeGreaterThan(2);
  expect(told.slice(0, skipped).map(({ lossScale }) => lossScale)).toEqual(
    Array.from({ length: skipped }, (_, i) => 2 ** (33 - i)),
  );
  expect(told.at(-1)!.loss).toBeLessThan(told[0].loss);
  model.dispose();
});
