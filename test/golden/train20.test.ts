// Twenty steps of AdamW, as PyTorch made them in float64: losses, gradient norms, and the weights they end with.
import { expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { Batch, BatchSource } from "../../src/data/index.ts";
import { mambaConfig } from "../../src/models/mamba/config.ts";
import { MambaModel } from "../../src/models/mamba/model.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";
import type { TrainProgress } from "../../src/train/index.ts";
import { train } from "../../src/train/index.ts";
import { reference, wasmBackend } from "../support/backends.ts";
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

it.each(["reference", "wasm"] as const)("twenty steps of AdamW as in PyTorch: %s", async (name) => {
  const backend = name === "reference" ? reference : await wasmBackend();
  const { tensors } = await readGolden("golden/train20_mamba1_adamw.safetensors");
  const expected = (name: string): Golden["data"] => tensors.get(`__fx.${name}`)!.data;
  const model = modelOf(tensors, backend);
  const told: TrainProgress[] = [];
  await train({
    model,
    data: batchesOf(expected("data")),
    steps: STEPS,
    learningRate: 1e-3,
    schedule: "constant",
    onProgress: (progress) => told.push(progress),
  });
  // float32 throughout on wasm; the fixture itself is rounded to float32.
  const tolerance = name === "reference" ? 1e-6 : 1e-4;
  expect(told).toHaveLength(STEPS);
  const losses = told.map(({ loss }) => loss);
  const norms = told.map(({ gradNorm }) => gradNorm);
  expectClose("losses", losses, expected("losses"), tolerance);
  expectClose("gradient norms", norms, expected("gradnorms"), tolerance);
  for (const [key, { tensor }] of model.namedParameters())
    expectClose(key, tensor.readNow(), expected(`final.${fixtureName(key)}`), tolerance);
  model.dispose();
});
