// Damaged checkpoints: for each thing that is wrong one clear error, and all memory given back.
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { wasmBackend } from "../../../test/support/backends.ts";
import type { Files } from "../../../test/support/checkpoint-files.ts";
import { savedFiles, withArrays, withConfig } from "../../../test/support/checkpoint-files.ts";
import { tinyModel } from "../../../test/support/tiny-model.ts";
import type { Backend } from "../../backends/backend.ts";
import { CheckpointError, ConfigError, DTypeError, MambaError } from "../../core/errors.ts";
import { memorySource } from "../../io/index.ts";
import { convertMamba, loadMamba, loadMambaWeights } from "./checkpoint.ts";
import type { MambaModel } from "./model.ts";

const IN_PROJ = "backbone.layers.1.mixer.in_proj.weight";

/** What is wrong, how to make it so, the class of the error and its words: the file or tensor, the rule, the remedy. */
const DAMAGES: [string, (files: Files) => Files | Promise<Files>, typeof MambaError, RegExp][] = [
  [
    "a tensor is missing",
    (files) => withArrays(files, (arrays) => arrays.delete(IN_PROJ)),
    CheckpointError,
    /files in memory: the tensor backbone\.layers\.1\.mixer\.in_proj\.weight is missing\. Does config\.json belong/,
  ],
  [
    "a tensor is too many",
    (files) => withArrays(files, (arrays) => arrays.set("other.weight", arrays.get(IN_PROJ)!)),
    CheckpointError,
    /files in memory: the tensor other\.weight has no place in this model\. Does config\.json belong/,
  ],
  [
    "a tensor has two names",
    (files) =>
      withArrays(files, (arrays) => arrays.set("backbone.embedding.weight", arrays.get("backbone.embeddings.weight")!)),
    CheckpointError,
    /model\.safetensors: backbone\.embeddings?\.weight and backbone\.embeddings?\.weight are two names .* Keep the one/,
  ],
  [
    "a tensor has another shape",
    (files) => withArrays(files, (arrays) => arrays.set(IN_PROJ, { ...arrays.get(IN_PROJ)!, shape: [24, 96] })),
    CheckpointError,
    /model\.safetensors: .*in_proj\.weight must be \[96, 24\] as config\.json says, got \[24, 96\]\. Does/,
  ],
  [
    "the convolution has lost its axis",
    (files) =>
      withArrays(files, (arrays) => {
        const name = "backbone.layers.0.mixer.conv1d.weight";
        arrays.set(name, { ...arrays.get(name)!, shape: [48, 4] });
      }),
    CheckpointError,
    /conv1d\.weight must be \[48, 1, 4\].*got \[48, 4\]/,
  ],
  ...[NaN, Infinity, -Infinity].map((value): (typeof DAMAGES)[number] => [
    `a weight is ${value}`,
    (files) => withArrays(files, (arrays) => (arrays.get(IN_PROJ)!.data[77] = value)),
    CheckpointError,
    new RegExp(`model\\.safetensors: .*in_proj\\.weight holds ${value}; weights must be finite.*damaged`),
  ]),
  [
    "the last tensor is NaN",
    (files) => withArrays(files, (arrays) => arrays.get("backbone.norm_f.weight")!.data.fill(NaN)),
    CheckpointError,
    /norm_f\.weight holds NaN/,
  ],
  [
    "the weights are cut off",
    (files) => ({ ...files, "model.safetensors": files["model.safetensors"].subarray(0, 5000) }),
    CheckpointError,
    /model\.safetensors: .*damaged: download/,
  ],
  [
    "there are no weights",
    ({ "config.json": config }) => ({ "config.json": config }),
    CheckpointError,
    /files in memory: there are no weights.*model\.safetensors/,
  ],
  [
    "there is no config.json",
    ({ "model.safetensors": weights }) => ({ "model.safetensors": weights }),
    CheckpointError,
    /no "config\.json"; there are/,
  ],
  [
    "config.json is broken",
    (files) => ({ ...files, "config.json": files["config.json"].subarray(0, 50) }),
    ConfigError,
    /config\.json: not valid JSON.*Fetch the file again/,
  ],
  [
    "config.json is no object",
    (files) => ({ ...files, "config.json": new TextEncoder().encode("[]") }),
    ConfigError,
    /config\.json: must hold a JSON object/,
  ],
  [
    "a field is missing",
    (files) => withConfig(files, { num_hidden_layers: undefined }),
    ConfigError,
    /config\.json: num_hidden_layers must be a number, got undefined/,
  ],
  [
    "it is another model",
    (files) => withConfig(files, { model_type: "mamba2" }),
    ConfigError,
    /config\.json: model_type must be "mamba", got "mamba2".*not supported yet/,
  ],
  ...(
    [
      ["hidden_size", 1e300, /dModel/],
      ["hidden_size", 2 ** 31 - 1, /must be \[256, 2147483647\] as config\.json says/],
      ["num_hidden_layers", 1e9, /nLayer/],
      ["num_hidden_layers", 10_000, /missing/],
      ["vocab_size", -1, /vocabSize/],
      ["vocab_size", 2 ** 31 - 1, /must be \[2147483647, 24\]/],
      ["intermediate_size", 0.5, /dInner/],
      ["state_size", 1e6, /dState must be a whole number from 1 to 256, got 1000000/],
      ["conv_kernel", 5, /dConv must be a whole number from 2 to 4, got 5/],
      ["time_step_rank", 0, /dtRank/],
      ["layer_norm_epsilon", 0, /normEps/],
      ["use_bias", "yes", /use_bias must be true or false/],
    ] as const
  ).map(([field, value, words]): (typeof DAMAGES)[number] => [
    `${field} is ${value}`,
    (files) => withConfig(files, { [field]: value }),
    MambaError,
    words,
  ]),
  [
    "an index names a shard that is not there",
    ({ "model.safetensors": weights, ...files }) => {
      const shards = { "backbone.norm_f.weight": "b.safetensors", [IN_PROJ]: "a.safetensors" };
      const index = new TextEncoder().encode(JSON.stringify({ weight_map: shards }));
      return { ...files, "a.safetensors": weights, "model.safetensors.index.json": index };
    },
    CheckpointError,
    /model\.safetensors\.index\.json names the shard "b\.safetensors", which is missing\. Download/,
  ],
];

describe("loading a checkpoint where", () => {
  let backend: Backend;
  let good: Files;
  let model: MambaModel;
  beforeAll(async () => {
    backend = await wasmBackend("simd", 2);
    model = tinyModel(backend);
    good = await savedFiles(model);
  });

  it.each(DAMAGES)("%s gives one clear error and the memory back", async (_, damage, kind, words) => {
    const source = memorySource(await damage({ ...good }));
    const before = backend.memory().liveBytes;
    for (const dtype of ["f32", "int8"] as const) {
      const error: unknown = await loadMamba(source, { backend, dtype }).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(kind);
      expect(error).not.toBeInstanceOf(DTypeError);
      expect((error as Error).message).toMatch(words);
      expect(backend.memory().liveBytes).toBe(before);
    }
    await expect(convertMamba(source, join(tmpdir(), "mamba-never-made"))).rejects.toThrow(words);
  });

  it("nothing is wrong loads again into a model that exists", async () => {
    const other = tinyModel(backend, {}, 6);
    expect(await savedFiles(other)).not.toEqual(good);
    const before = backend.memory().liveBytes;
    await loadMambaWeights(other, memorySource(good));
    expect(await savedFiles(other)).toEqual(good);
    expect(backend.memory().liveBytes).toBe(before);
    other.dispose();
  });
});
