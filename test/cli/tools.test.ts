// mamba inspect, convert, doctor and bench.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openSource, openTensors } from "../../src/io/index.ts";
import { Mamba } from "../../src/mamba.ts";
import { runJson, runMamba, saveTinyModel } from "./run-mamba.ts";
import { writeStateSpacesFolder } from "./state-spaces-folder.ts";

let folder = "";
let model = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-tools-"));
  model = join(folder, "model");
  await saveTinyModel(model);
});

afterAll(() => rm(folder, { recursive: true }));

interface Inspected {
  config: Record<string, unknown>;
  parameters: number;
  tensors: { name: string; shape: number[]; parameters: number; dtype: string }[];
  stateBytes: number;
  weightBytes: { f32: number; int8: number };
}

it("inspects a checkpoint", async () => {
  const mamba = await Mamba.load(model, { device: "wasm", threads: 1 });
  const inspected = await runJson<Inspected>(["inspect", model]);
  expect(inspected.config).toMatchObject({ dModel: 32, nLayer: 2, vocabSize: 256, dState: 8 });
  expect(inspected.parameters).toBe(mamba.model.parameterCount);
  expect(inspected.tensors.find(({ name }) => name === "backbone.layers.1.mixer.conv1d.weight")).toMatchObject({
    shape: [64, 1, 4],
    parameters: 256,
    dtype: "F32",
  });
  expect(inspected.stateBytes).toBe(4 * 2 * 64 * (3 + 8));
  expect(inspected.weightBytes.f32).toBeGreaterThanOrEqual(4 * inspected.parameters);
  expect(inspected.weightBytes.int8).toBeLessThan(inspected.weightBytes.f32 / 2);
  mamba.dispose();
  const text = await runMamba(["inspect", model]);
  expect(text).toMatchObject({ code: 0, stderr: "" });
  expect(text.stdout).toContain("backbone.embeddings.weight");
});

it("converts a checkpoint, and refuses to write over one", async () => {
  const out = join(folder, "converted");
  const converted = await runJson<{ tensors: number; dtype: string }>([
    "convert",
    model,
    "--out",
    out,
    "--dtype",
    "bf16",
  ]);
  expect(converted).toMatchObject({ dtype: "BF16", tensors: 22 });
  expect((await readdir(out)).sort()).toEqual([
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer_config.json",
  ]);
  const [before, after] = await Promise.all(
    [model, out].map((name) => Mamba.load(name, { device: "wasm", threads: 1 })),
  );
  const prompt = "A text of some length";
  const [a, b] = await Promise.all([before.evaluate(prompt), after.evaluate(prompt)]);
  expect(Math.abs(a.nll - b.nll)).toBeLessThan(0.05);
  expect(a.nll).not.toBe(b.nll);
  const again = await runMamba(["convert", model, "--out", out]);
  expect(again.code).toBe(1);
  expect(again.stderr).toMatch(/holds a checkpoint already.*--force/);
  expect((await runMamba(["convert", model, "--out", out, "--force"])).code).toBe(0);
  [before, after].forEach((mamba) => mamba.dispose());
});

it("converts what state-spaces publishes, a pickle of tensors, to the same numbers", async () => {
  const mamba = await Mamba.load(model, { device: "wasm", threads: 1 });
  const [published, out] = [join(folder, "published"), join(folder, "from-pickle")];
  const reader = await openTensors(await openSource(model));
  await writeStateSpacesFolder(published, mamba.config, reader);
  await reader.close();
  mamba.dispose();
  const converted = await runJson<{ tensors: number; dtype: string }>(["convert", published, "--out", out]);
  expect(converted).toMatchObject({ dtype: "F32", tensors: 22 });
  const [before, after] = await Promise.all([model, out].map((name) => readFile(join(name, "model.safetensors"))));
  expect(after.equals(before)).toBe(true);
  const config = JSON.parse(await readFile(join(out, "config.json"), "utf8")) as Record<string, unknown>;
  expect(config).toMatchObject({ model_type: "mamba", hidden_size: 32, vocab_size: 256, state_size: 8 });
});

it("finds this machine well", async () => {
  interface Diagnosis {
    isGood: boolean;
    auto: string | null;
    wasm: { builds: { build: string; isUsed: boolean; ops: { op: string; isGood: boolean }[] }[] };
    webgpu: null;
  }
  const { code, stdout } = await runMamba(["doctor", "--device", "wasm", "--threads", "2", "--json"]);
  const { isGood, auto, wasm, webgpu } = JSON.parse(stdout) as Diagnosis;
  expect({ auto, webgpu }).toEqual({ auto: null, webgpu: null });
  const { builds } = wasm;
  expect(builds.flatMap(({ ops }) => ops.filter((op) => !op.isGood))).toEqual([]);
  expect({ code, isGood }).toEqual({ code: 0, isGood: true });
  expect(builds.filter(({ isUsed }) => isUsed)).toHaveLength(1);
  expect(builds.find(({ isUsed }) => isUsed)?.ops.length).toBeGreaterThan(10);
});

it("measures a tiny model of random weights", async () => {
  const args = [
    "--shape",
    "tiny",
    "--prompt-tokens",
    "16,33",
    "--new-tokens",
    "4",
    "--reps",
    "2",
    "--device",
    "wasm",
    "--threads",
    "1",
  ];
  for (const dtype of ["f32", "int8"]) {
    const result = await runJson<{
      prefill: { tokens: number; tokensPerSecond: { median: number } }[];
      decode: { tokens: number; tokensPerSecond: { median: number } };
      weightBytes: number;
    }>(["bench", ...args, "--dtype", dtype]);
    expect(result).toMatchObject({ shape: "tiny", dtype, threads: 1, prefill: [{ tokens: 16 }, { tokens: 33 }] });
    for (const { tokensPerSecond } of [...result.prefill, result.decode])
      expect(tokensPerSecond.median).toBeGreaterThan(0);
  }
});

it("inspects, evaluates and continues a Transformer that it trained", async () => {
  const out = join(folder, "transformer");
  const text = join(folder, "little.txt");
  await writeFile(text, "the cat sat on the mat. ".repeat(40));
  const on = ["--device", "wasm", "--threads", "1"];
  const sizes = ["--arch", "transformer", "--d-model", "32", "--layers", "1", "--head-dim", "8", "--d-mlp", "32"];
  const how = ["--batch", "2", "--length", "16", "--steps", "2", "--eval-fraction", "0"];
  expect(await runMamba(["train", "--data", text, "--out", out, ...sizes, ...how, ...on])).toMatchObject({ code: 0 });
  const last = join(out, "last");
  const inspected = await runJson<Inspected & { stateBytesPerToken: number }>(["inspect", last]);
  expect(inspected.config).toMatchObject({ architecture: "transformer", dModel: 32 });
  expect(inspected).toMatchObject({ stateBytes: 0, stateBytesPerToken: 4 * 2 * 32 });
  expect((await runMamba(["inspect", last])).stdout).toMatch(/layers +attention, mlp\n[^]*256 B a token/);
  const scored = await runJson<{ bitsPerByte: number }>(["eval", "--model", last, "--text", text, ...on]);
  expect(scored.bitsPerByte).toBeGreaterThan(0);
  const prompt = ["generate", "--model", last, "--prompt", "the cat", "--max-tokens", "5", "--temperature", "0"];
  const state = join(folder, "transformer.state");
  const whole = await runJson<{ tokens: number[] }>([...prompt, ...on, "--state-out", state]);
  expect(whole.tokens).toHaveLength(5);
  const again = [...prompt, ...on, "--state-in", state];
  expect((await runJson<{ tokens: number[] }>(again)).tokens).toHaveLength(5);
});
