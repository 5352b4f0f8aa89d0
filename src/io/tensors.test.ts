// Checkpoint folders: one file or shards, safetensors or PyTorch, and indexes that lie.
import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../core/errors.ts";
import { encodeSafetensors } from "./safetensors-write.ts";
import { memorySource } from "./source.ts";
import { openTensors } from "./tensors.ts";
import type { TensorReader } from "./tensors.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const index = (weightMap: unknown): Uint8Array =>
  utf8(JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));
const oneTensor = (name: string, value: number): Promise<Uint8Array> =>
  encodeSafetensors([{ name, dtype: "F32", shape: [1], data: () => Float32Array.of(value) }]);
const torchFile = (name: string): Promise<Uint8Array> =>
  readFile(new URL(`../../test/fixtures/io/${name}`, import.meta.url)).then((bytes) => new Uint8Array(bytes));

async function first(reader: TensorReader, name: string): Promise<number> {
  const target = new Float32Array(1);
  await reader.readFloat32(name, target, { count: 1 });
  return target[0];
}

describe("openTensors", () => {
  it("prefers one safetensors file, then shards, then PyTorch, then its shards", async () => {
    const files: Record<string, Uint8Array> = {
      "pytorch_model.bin.index.json": index({ weight: "part.bin" }),
      "part.bin": await torchFile("torch-protocol4.bin"),
    };
    const formats = async (): Promise<string> =>
      (await openTensors(memorySource(files))).tensors.values().next().value?.name ?? "";
    expect(await formats()).toBe("weight");
    files["pytorch_model.bin"] = await torchFile("torch-module.bin");
    expect(await formats()).toBe("0.weight");
    files["model.safetensors.index.json"] = index({ sharded: "part.safetensors" });
    files["part.safetensors"] = await oneTensor("sharded", 1);
    expect(await formats()).toBe("sharded");
    files["model.safetensors"] = await oneTensor("single", 1);
    expect(await formats()).toBe("single");
  });

  it("reads tensors from their shards", async () => {
    const reader = await openTensors(
      memorySource({
        "model.safetensors.index.json": index({ b: "2.safetensors", a: "1.safetensors" }),
        "1.safetensors": await oneTensor("a", 1),
        "2.safetensors": await oneTensor("b", 2),
      }),
    );
    expect([await first(reader, "a"), await first(reader, "b")]).toEqual([1, 2]);
    expect(reader.metadata).toEqual({ format: "pt" });
    await expect(reader.readFloat32("c", new Float32Array(1))).rejects.toThrow(/no tensor "c"/);
    await reader.close();
  });

  it("lists what a folder without weights holds", async () => {
    await expect(openTensors(memorySource({ "config.json": utf8("{}") }))).rejects.toThrow(
      /none of model\.safetensors.*There are "config\.json"/,
    );
  });

  it("knows a pointer of Git LFS", async () => {
    const pointer = utf8("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
    await expect(openTensors(memorySource({ "model.safetensors": pointer }))).rejects.toThrow(/git lfs pull/);
  });

  it.each([
    ["is no JSON", utf8("{"), /not valid JSON/],
    ["is not UTF-8", Uint8Array.of(0xff), /UTF-8/],
    ["has no weight_map", utf8("{}"), /weight_map/],
    ["maps to a number", index({ a: 1 }), /plain file name/],
    ["leaves the folder", index({ a: "../secret.safetensors" }), /plain file name/],
    ["names an absolute path", index({ a: "/etc/passwd" }), /plain file name/],
    ["names a Windows path", index({ a: "C:\\secret" }), /plain file name/],
    ["names a shard that is missing", index({ a: "9.safetensors" }), /"9\.safetensors", which is missing/],
    ["names a tensor that is not in its shard", index({ z: "1.safetensors" }), /"z" should be in "1\.safetensors"/],
    [
      "names 5000 shards",
      index(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`t${i}`, `${i}.safetensors`]))),
      /at most 4096/,
    ],
  ])("refuses an index that %s", async (_, bytes, message) => {
    const source = memorySource({ "model.safetensors.index.json": bytes, "1.safetensors": await oneTensor("a", 1) });
    const outcome = await openTensors(source).catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(CheckpointError);
    expect((outcome as Error).message).toMatch(message);
  });
});
