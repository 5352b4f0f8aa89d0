// Checkpoints of every family: what is written comes back, float32 bit for bit and int8 to half a step of each row.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reference } from "../../../test/support/backends.ts";
import { CheckpointError } from "../../core/errors.ts";
import { createRandom } from "../../core/random.ts";
import { openSource, openTensors } from "../../io/index.ts";
import { createModel } from "../architectures.ts";
import type { AnyModel } from "../auto.ts";
import { convertModel, loadConfig, loadModel, saveModel } from "../auto.ts";
import { StackModel } from "../stack/model.ts";

const SIZES = { dModel: 16, nLayer: 2, vocabSize: 24, dState: 8, headDim: 8, nKvHeads: 1, dMlp: 24, nExperts: 3 };
const ATTENTION = {
  kind: "attention",
  nHeads: 2,
  nKvHeads: 2,
  headDim: 8,
  rotaryDim: 2,
  ropeBase: 5000,
  useBias: true,
} as const;
const GELU = { kind: "mlp", dInner: 32, activation: "gelu", useBias: true } as const;

function neox(isParallel: boolean): AnyModel {
  const model = new StackModel({
    architecture: "gpt-neox",
    dModel: 16,
    vocabSize: 24,
    layers: isParallel ? [[ATTENTION, GELU]] : [[ATTENTION], [GELU]],
    norm: "layer",
    normEps: 1e-5,
    tieEmbeddings: false,
    eosTokenId: 3,
  });
  model.initialize(reference, createRandom(2));
  return model;
}

const MODELS: readonly [name: string, type: string, make: () => AnyModel][] = [
  ["mamba", "mamba", () => createModel("mamba", SIZES, reference, createRandom(1))],
  ["transformer", "llama", () => createModel("transformer", SIZES, reference, createRandom(1))],
  ["gpt-neox", "gpt_neox", () => neox(true)],
  ["gpt-neox in turn", "gpt_neox", () => neox(false)],
  ...["lstm", "gru", "s4d", "h3", "mamba-none", "mamba-moe", "hybrid"].map((name): [string, string, () => AnyModel] => [
    name,
    "mamba_ts_stack",
    () => createModel(name, SIZES, reference, createRandom(1)),
  ]),
];

let root = "";
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mamba-checkpoint-"));
});
afterAll(() => rm(root, { recursive: true }));

async function weightsOf(model: AnyModel): Promise<Map<string, number[]>> {
  const weights = new Map<string, number[]>();
  for (const [name, { tensor }] of model.namedParameters()) weights.set(name, [...(await tensor.read())]);
  return weights;
}

describe.each(MODELS)("%s", (name, type, make) => {
  it("comes back bit for bit, also through a copy", async () => {
    const model = make();
    const [folder, copy] = [join(root, name), join(root, `${name} copied`)];
    await saveModel(model, folder);
    const config = JSON.parse(await readFile(join(folder, "config.json"), "utf8")) as { model_type: string };
    expect(config.model_type).toBe(type);
    expect(await loadConfig(await openSource(folder))).toEqual(model.config);
    await convertModel(await openSource(folder), copy);
    const saved = await weightsOf(model);
    for (const from of [folder, copy]) {
      const loaded = await loadModel(await openSource(from), { backend: reference, trainable: true });
      expect(await weightsOf(loaded)).toEqual(saved);
      loaded.dispose();
    }
    model.dispose();
  });

  it("comes back from int8 to half a step, and the same from what that gives", async () => {
    const model = make();
    const [folder, again] = [join(root, `${name} int8`), join(root, `${name} int8 again`)];
    await saveModel(model, folder, { dtype: "I8" });
    const loaded = await loadModel(await openSource(folder), { backend: reference, trainable: true });
    const [saved, found] = [await weightsOf(model), await weightsOf(loaded)];
    for (const [key, parameter] of model.namedParameters()) {
      const columns = parameter.shape.at(-1)!;
      const [before, after] = [saved.get(key)!, found.get(key)!];
      const isQuantised = parameter.isPackable;
      if (!isQuantised) expect(after).toEqual(before);
      else
        for (let row = 0; row < before.length / columns; row++) {
          const values = before.slice(row * columns, (row + 1) * columns);
          const step = Math.max(...values.map(Math.abs)) / 127;
          const worst = Math.max(...values.map((value, i) => Math.abs(value - after[row * columns + i])));
          expect(worst).toBeLessThanOrEqual(0.5001 * step);
        }
    }
    await saveModel(loaded, again, { dtype: "I8" });
    const twice = await loadModel(await openSource(again), { backend: reference, trainable: true });
    expect(await weightsOf(twice)).toEqual(found);
    [model, loaded, twice].forEach((each) => each.dispose());
  });
});

describe("a Transformer++", () => {
  it("has the names that transformers gives a Llama", async () => {
    const model = createModel("transformer", SIZES, reference, createRandom(1));
    const folder = join(root, "llama");
    await saveModel(model, folder);
    const reader = await openTensors(await openSource(folder));
    const shapes = Object.fromEntries([...reader.tensors].map(([name, { shape }]) => [name, shape]));
    expect(shapes).toMatchObject({
      "model.embed_tokens.weight": [24, 16],
      "model.layers.1.self_attn.q_proj.weight": [16, 16],
      "model.layers.1.self_attn.k_proj.weight": [8, 16],
      "model.layers.1.self_attn.v_proj.weight": [8, 16],
      "model.layers.1.self_attn.o_proj.weight": [16, 16],
      "model.layers.1.mlp.gate_proj.weight": [24, 16],
      "model.layers.1.mlp.up_proj.weight": [24, 16],
      "model.layers.1.mlp.down_proj.weight": [16, 24],
      "model.layers.1.input_layernorm.weight": [16],
      "model.layers.1.post_attention_layernorm.weight": [16],
      "model.norm.weight": [16],
    });
    await reader.close();
    model.dispose();
  });
});

describe("config.json", () => {
  it("names the families that are known", async () => {
    const source = {
      description: "folder",
      has: () => Promise.resolve(true),
      readText: () => Promise.resolve('{"model_type": "gpt2"}'),
    };
    await expect(loadConfig(source as never)).rejects.toThrow(/model_type must be "mamba", "llama", "gpt_neox"/);
  });
});

it("says where the scales of an int8 tensor are missing", async () => {
  const model = createModel("lstm", SIZES, reference, createRandom(1));
  const folder = join(root, "no scales");
  await saveModel(model, folder, { dtype: "I8" });
  const path = join(folder, "model.safetensors");
  const bytes = await readFile(path);
  const text = bytes.toString("latin1").replace("embeddings.weight_scale", "embeddings.weight_stale");
  const { writeFile } = await import("node:fs/promises");
  await writeFile(path, Buffer.from(text, "latin1"));
  const loading = loadModel(await openSource(folder), { backend: reference });
  await expect(loading).rejects.toThrow(CheckpointError);
  model.dispose();
});
