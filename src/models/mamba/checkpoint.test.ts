// Checkpoints: what is saved comes back, both dialects, the folder as transformers has it, int8, f16. What is wrong: checkpoint-damage.test.ts.
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { filesOf, readArrays, savedFiles, withArrays, withConfig } from "../../../test/support/checkpoint-files.ts";
import { tinyModel } from "../../../test/support/tiny-model.ts";
import type { Backend } from "../../backends/backend.ts";
import { memorySource, openSource } from "../../io/index.ts";
import { unpackWeight } from "../../ops/linear/pack.ts";
import { scope } from "../../tensor/scope.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { convertMamba, loadMamba, saveMamba } from "./checkpoint.ts";
import type { MambaOptions } from "./config.ts";
import type { MambaModel } from "./model.ts";

const CONFIGS: [string, Partial<MambaOptions>][] = [
  ["a tied head", {}],
  ["a head of its own", { tieEmbeddings: false }],
  ["biases everywhere", { useBias: true, eosTokenId: 3 }],
  ["no bias at the convolution", { useConvBias: false }],
  ["dConv 2, expand 1", { dConv: 2, expand: 1 }],
  ["dConv 3, expand 3, dtRank 5", { dConv: 3, expand: 3, dtRank: 5 }],
  ["dState 1, an epsilon, an odd vocabulary", { dState: 1, normEps: 1e-6, vocabSize: 37 }],
];

let root = "";
let made = 0;
let backend: Backend;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mamba-checkpoint-"));
  backend = await wasmBackend("simd", 2);
});

afterAll(() => rm(root, { recursive: true }));

function newFolder(): string {
  return join(root, String(made++));
}

function arraysOf(model: MambaModel): Record<string, number[]> {
  return scope(() =>
    Object.fromEntries(
      [...model.namedParameters()].map(([name, { tensor }]) => [name, Array.from(unpackWeight(tensor).readNow())]),
    ),
  );
}

function logitsOf(model: MambaModel, ids: readonly number[]): number[] {
  return scope(() => {
    const tokens = tensorFrom(model.backend, ids, [1, ids.length], "i32");
    return Array.from(model.forward(tokens, model.initialState()).logits.readNow());
  });
}

describe.each(CONFIGS)("a model with %s", (_, options) => {
  it("comes back exactly from float32, packed and plain", async () => {
    const model = tinyModel(backend, options);
    const source = memorySource(await savedFiles(model));
    for (const trainable of [false, true]) {
      const loaded = await loadMamba(source, { backend, trainable });
      expect(loaded.config).toEqual(model.config);
      expect(arraysOf(loaded)).toEqual(arraysOf(model));
      expect(loaded.backbone.embeddings.weight.tensor.format).toBe(trainable ? "rows" : "panels");
      loaded.dispose();
    }
    const onReference = await loadMamba(source, { backend: reference });
    expect(arraysOf(onReference)).toEqual(arraysOf(model));
    model.dispose();
  });

  it.each([
    ["F16", 2 ** -11, 2 ** -25],
    ["BF16", 2 ** -8, 0],
  ] as const)("comes back from %s rounded once", async (dtype, relative, absolute) => {
    const model = tinyModel(backend, options);
    const loaded = await loadMamba(memorySource(await savedFiles(model, dtype)), { backend });
    const after = arraysOf(loaded);
    for (const [name, before] of Object.entries(arraysOf(model)))
      before.forEach((value, i) => {
        if (!(Math.abs(after[name][i] - value) <= Math.abs(value) * relative + absolute))
          expect.fail(`${name}[${i}]: ${value} became ${after[name][i]}`);
      });
    expect(await savedFiles(loaded, dtype)).toEqual(await savedFiles(model, dtype));
    [model, loaded].forEach((one) => one.dispose());
  });
});

describe("a folder that is written", () => {
  it("holds what transformers writes for the same model", async () => {
    const theirs = await openSource(fileURLToPath(new URL("../../../test/fixtures/tiny-mamba", import.meta.url)));
    const model = await loadMamba(theirs, { backend });
    const ours = await savedFiles(model);
    expect(Object.keys(ours).sort()).toEqual(["config.json", "generation_config.json", "model.safetensors"]);
    expect(await readArrays(memorySource(ours))).toEqual(await readArrays(theirs));
    const read = async (name: string): Promise<Record<string, unknown>[]> =>
      [new TextDecoder().decode(ours[name]), await theirs.readText(name)].map(
        (text) => JSON.parse(text) as Record<string, unknown>,
      );
    const [{ torch_dtype, ...config }, { dtype, ...theirConfig }] = await read("config.json");
    // transformers 5 writes `dtype`; every version reads `torch_dtype`.
    expect(torch_dtype).toBe(dtype);
    expect(theirConfig).toMatchObject(config);
    const [generation, theirGeneration] = await read("generation_config.json");
    expect(theirGeneration).toMatchObject(generation);
    model.dispose();
  });

  it("names and shapes tensors as PyTorch's modules do", async () => {
    for (const tieEmbeddings of [true, false]) {
      const model = tinyModel(backend, { tieEmbeddings, nLayer: 1, useBias: true });
      const arrays = await readArrays(memorySource(await savedFiles(model)));
      const mixer = "backbone.layers.0.mixer";
      const shapes = Object.fromEntries([...arrays].map(([name, { shape }]) => [name, shape]));
      expect(shapes).toEqual({
        "backbone.embeddings.weight": [256, 24],
        "backbone.layers.0.norm.weight": [24],
        [`${mixer}.A_log`]: [48, 8],
        [`${mixer}.D`]: [48],
        [`${mixer}.in_proj.weight`]: [96, 24],
        [`${mixer}.in_proj.bias`]: [96],
        [`${mixer}.conv1d.weight`]: [48, 1, 4],
        [`${mixer}.conv1d.bias`]: [48],
        [`${mixer}.x_proj.weight`]: [18, 48],
        [`${mixer}.dt_proj.weight`]: [48, 2],
        [`${mixer}.dt_proj.bias`]: [48],
        [`${mixer}.out_proj.weight`]: [24, 48],
        [`${mixer}.out_proj.bias`]: [24],
        "backbone.norm_f.weight": [24],
        ...(tieEmbeddings ? {} : { "lm_head.weight": [256, 24] }),
      });
      model.dispose();
    }
  });

  it("is not begun with a weight that its element type cannot hold", async () => {
    const model = tinyModel(backend);
    const norm = model.backbone.normF.weight;
    norm.assign(
      tensorFrom(
        backend,
        Float32Array.from({ length: 24 }, () => 65520),
        [24],
      ),
    );
    const folder = newFolder();
    await expect(saveMamba(model, folder, { dtype: "F16" })).rejects.toThrow(/norm_f.weight.*beyond float16.*bfloat16/);
    norm.assign(
      tensorFrom(
        backend,
        Float32Array.from({ length: 24 }, () => NaN),
        [24],
      ),
    );
    await expect(saveMamba(model, folder)).rejects.toThrow(/norm_f.weight holds NaN/);
    expect(await readdir(folder)).toEqual([]);
    model.dispose();
  });
});

describe("the dialect of state-spaces", () => {
  it.each([true, false])("gives the same model, tied %s", async (tieEmbeddings) => {
    const model = tinyModel(backend, { tieEmbeddings, eosTokenId: 0 });
    const files = await withArrays(await savedFiles(model), (arrays) => {
      const embedding = arrays.get("backbone.embeddings.weight")!;
      arrays.delete("backbone.embeddings.weight");
      arrays.set("backbone.embedding.weight", embedding);
      if (tieEmbeddings) arrays.set("lm_head.weight", embedding);
    });
    const config = { d_model: 24, n_layer: 2, vocab_size: 253, ssm_cfg: { d_state: 8 }, tie_embeddings: tieEmbeddings };
    files["config.json"] = new TextEncoder().encode(JSON.stringify(config));
    const loaded = await loadMamba(memorySource(files), { backend });
    expect(loaded.config).toEqual(model.config);
    expect(arraysOf(loaded)).toEqual(arraysOf(model));
    const folder = newFolder();
    await convertMamba(memorySource(files), folder);
    expect(await filesOf(folder)).toEqual(await savedFiles(model));
    [model, loaded].forEach((one) => one.dispose());
  });
});

describe("convertMamba", () => {
  it("writes the bytes that loading and saving would", async () => {
    const model = tinyModel(backend);
    const shares: number[] = [];
    for (const dtype of ["F32", "F16", "BF16"] as const) {
      const source = memorySource(await savedFiles(model, dtype));
      const folder = newFolder();
      const converted = await convertMamba(source, folder, { onProgress: (share) => shares.push(share) });
      expect(converted).toMatchObject({ dtype, parameters: model.parameterCount });
      expect(await filesOf(folder)).toEqual(await savedFiles(model, dtype));
      expect(shares.at(-1)).toBe(1);
    }
    const folder = newFolder();
    await convertMamba(memorySource(await savedFiles(model)), folder, { dtype: "BF16", files: { "a.txt": "b" } });
    expect(await filesOf(folder)).toEqual({ ...(await savedFiles(model, "BF16")), "a.txt": Buffer.from("b") });
    model.dispose();
  });

  it("makes no folder for a checkpoint that does not fit its configuration", async () => {
    const model = tinyModel(backend);
    const files = withConfig(await savedFiles(model), { num_hidden_layers: 3 });
    const folder = newFolder();
    await expect(convertMamba(memorySource(files), folder)).rejects.toThrow(/layers\.2.*missing/);
    await expect(readdir(folder)).rejects.toThrow(/ENOENT/);
    model.dispose();
  });
});

describe("int8 weights", () => {
  /** Worst difference of a logit over the largest logit. Measured: 0.009 (tied), 0.011; weights are rounded by at most 1/254 of a row's largest. */
  const BOUND = 0.02;

  it.each([true, false])("give nearly the logits of float32, tied %s", async (tieEmbeddings) => {
    const model = tinyModel(backend, { dModel: 64, tieEmbeddings });
    const source = memorySource(await savedFiles(model));
    const [full, small] = [await loadMamba(source, { backend }), await loadMamba(source, { backend, dtype: "int8" })];
    const ids = Array.from({ length: 50 }, (_, i) => (i * 37) % 256);
    const [expected, got] = [logitsOf(full, ids), logitsOf(small, ids)];
    const largest = Math.max(...expected.map(Math.abs));
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - got[i]))) / largest;
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThan(BOUND);
    [model, full, small].forEach((one) => one.dispose());
  });
});

describe("f16 weights", () => {
  it("are for devices that have it, and for inference; activations are float16 then", async () => {
    const model = tinyModel(backend);
    const source = memorySource(await savedFiles(model));
    const loaded = await loadMamba(source, { backend: reference, dtype: "f16" });
    expect(loaded.activations).toBe("f16");
    expect(loaded.backbone.embeddings.weight.tensor).toMatchObject({ dtype: "f16", format: "rows" });
    expect(loaded.backbone.normF.weight.tensor.dtype).toBe("f32");
    await expect(loadMamba(source, { backend, dtype: "f16" })).rejects.toThrow(/there is no f16 here/);
    await expect(loadMamba(source, { backend: reference, dtype: "f16", trainable: true })).rejects.toThrow(
      /f16 weights cannot be trained/,
    );
    [model, loaded].forEach((one) => one.dispose());
  });

  it.skipIf(!hasGpu)("lie on a GPU as the file has them in F16, and int8 as the reference quantises", async () => {
    const gpu = await gpuBackend();
    const model = tinyModel(backend);
    const files = await savedFiles(model, "F16");
    const loaded = await loadMamba(memorySource(files), { backend: gpu, dtype: "f16" });
    expect(loaded.backbone.layers[0].mixer.inProj.weight.tensor).toMatchObject({ dtype: "f16", format: "rows" });
    expect(await savedFiles(loaded, "F16")).toEqual(files);
    const quantised = [gpu, reference].map((each) => loadMamba(memorySource(files), { backend: each, dtype: "int8" }));
    const [ours, theirs] = await Promise.all((await Promise.all(quantised)).map((each) => savedFiles(each)));
    expect(ours).toEqual(theirs);
    [model, loaded].forEach((one) => one.dispose());
  });
});
