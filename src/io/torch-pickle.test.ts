// Files of torch.save: those PyTorch wrote (test/fixtures/io), and hostile ones, of which nothing may run.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { makeArchive } from "../../test/fixtures/io/archive.ts";
import { CheckpointError } from "../core/errors.ts";
import { folderSource } from "./folder-node.ts";
import type { TensorReader } from "./tensor-info.ts";
import { elementsOf } from "./tensor-info.ts";
import { openTorchPickle } from "./torch-pickle.ts";

const fixtures = folderSource(fileURLToPath(new URL("../../test/fixtures/io", import.meta.url)));

async function readAll(reader: TensorReader, name: string): Promise<number[]> {
  const target = new Float32Array(elementsOf(reader.tensors.get(name)?.shape ?? []));
  await reader.readFloat32(name, target);
  return [...target];
}

const ramp = (count: number, start = 0, step = 0.5): number[] =>
  Array.from({ length: count }, (_, i) => start + i * step);

/** The bytes of a pickle, written as text: `\x..` escapes and plain characters. */
const latin = (text: string): Uint8Array => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** A dict {w: tensor} on storage "0" of 4 floats, with this offset, size and stride (pickled). */
function tensorPickle(offset: string, size: string, stride: string): string {
  const storage = "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
  return `\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(${storage}${offset}${size}${stride}\x89ccollections\nOrderedDict\n)RtRs.`;
}

function archive(
  pickle: string,
  storage: Uint8Array = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer),
): ReturnType<typeof makeArchive> {
  return makeArchive({ "archive/data.pkl": latin(pickle), "archive/data/0": storage });
}

describe("files that PyTorch wrote", () => {
  it("every dtype, views, tied tensors and parameters", async () => {
    const reader = await openTorchPickle(await fixtures.open("torch-tensors.bin"));
    const expected: Record<string, [string, number[], number[]]> = {
      f64: ["F64", [3], ramp(3)],
      f32: ["F32", [2, 3], ramp(6)],
      f16: ["F16", [3, 2], ramp(6)],
      bf16: ["BF16", [1, 6], ramp(6)],
      i64: ["I64", [3], [-5, 0, 2 ** 31]],
      i64_wide: ["I64", [1], [2 ** 31]],
      i32: ["I32", [1, 2], [-1, 7]],
      i16: ["I16", [2], [-300, 300]],
      i8: ["I8", [2], [-128, 127]],
      u8: ["U8", [2], [0, 255]],
      bool: ["BOOL", [3], [1, 0, 1]],
      scalar: ["F32", [], [2.5]],
      empty: ["F32", [0, 3], []],
      transposed: ["F32", [6, 4], ramp(24).map((_, i) => ((i % 4) * 6 + Math.floor(i / 4)) * 0.5)],
      sliced: ["F32", [2, 3], [3.5, 4.5, 5.5, 6.5, 7.5, 8.5]],
      permuted: ["F16", [4, 2, 3], ramp(24).map((_, i) => ((i % 6) * 4 + Math.floor(i / 6)) * 0.5)],
      "tied.a": ["F32", [10], ramp(10, -2)],
      "tied.b": ["F32", [10], ramp(10, -2)],
      "tied.part": ["F32", [4], ramp(4, -0.5)],
      parameter: ["F32", [2, 2], ramp(4)],
    };
    expect([...reader.tensors.keys()]).toEqual(Object.keys(expected));
    for (const [name, [dtype, shape, values]] of Object.entries(expected)) {
      expect(reader.tensors.get(name)).toMatchObject({ name, dtype, shape });
      expect({ name, values: await readAll(reader, name) }).toEqual({ name, values });
    }
    await reader.close();
  });

  it("runs of elements, contiguous and not, and integers", async () => {
    const reader = await openTorchPickle(await fixtures.open("torch-tensors.bin"));
    const target = new Float32Array(5);
    for (const name of ["tied.a", "transposed", "permuted"]) {
      const all = await readAll(reader, name);
      await reader.readFloat32(name, target, { start: 3, count: 5 });
      expect([...target]).toEqual(all.slice(3, 8));
    }
    const integers = new Int32Array(3);
    await reader.readInt32("i64", integers);
    expect([...integers]).toEqual([-5, 0, 2 ** 31 - 1]);
    await expect(reader.readInt32("i64_wide", integers)).rejects.toThrow(/outside/);
    await reader.close();
  });

  it("a module's state dict, protocol 4, Python's zip layout with a byteorder", async () => {
    for (const [name, tensor, values] of [
      ["torch-module.bin", "0.weight", ramp(6)],
      ["torch-protocol4.bin", "weight", ramp(4)],
      ["torch-little-endian.bin", "weight", ramp(4, 1, 1)],
    ] as const) {
      const reader = await openTorchPickle(await fixtures.open(name));
      expect(await readAll(reader, tensor)).toEqual(values);
      await reader.close();
    }
  });

  it("zip64 archives", async () => {
    const file = await makeArchive(
      { "a/data.pkl": latin(tensorPickle("K\0", "K\x04\x85", "K\x01\x85")), "a/data/0": new Uint8Array(16) },
      { zip64: true },
    );
    expect(await readAll(await openTorchPickle(file), "w")).toEqual([0, 0, 0, 0]);
  });

  it.each([
    ["torch-legacy.bin", /before PyTorch 1\.6/],
    ["torch-whole-module.bin", /"torch\.nn\.modules\.linear\.Linear"/],
    ["torch-nested.bin", /no tensors, only "model", "step"/],
    ["torch-expanded.bin", /overlap/],
    ["torch-big-endian.bin", /byteorder must be "little"/],
    ["torch-compressed.bin", /compressed/],
    ["hostile-system.bin", /asks for "posix\.system"/],
  ])("refuses %s", async (name, message) => {
    const file = await fixtures.open(name);
    const outcome = await openTorchPickle(file).catch((error: unknown) => error);
    await file.close();
    expect(outcome).toBeInstanceOf(CheckpointError);
    expect((outcome as Error).message).toMatch(message);
    expect((outcome as Error).message).toContain(name);
    expect(existsSync("/tmp/mamba-ts-was-attacked")).toBe(false);
  });
});

describe("hostile pickles", () => {
  it("reads the same pickle when it is honest", async () => {
    const reader = await openTorchPickle(await archive(tensorPickle("K\x01", "K\x03\x85", "K\x01\x85")));
    expect(await readAll(reader, "w")).toEqual([2, 3, 4]);
  });

  it.each([
    ["leaves its storage", tensorPickle("K\x02", "K\x03\x85", "K\x01\x85"), /leaves its storage of 4/],
    ["overlaps itself", tensorPickle("K\0", "K\x02K\x02\x86", "K\x01K\x01\x86"), /overlap/],
    ["has more sizes than strides", tensorPickle("K\0", "K\x02K\x02\x86", "K\x01\x85"), /2 sizes and 1 strides/],
    ["has a negative offset", tensorPickle("J\xff\xff\xff\xff", "K\x02\x85", "K\x01\x85"), /without a storage/],
    ["has a size of 2^62", tensorPickle("K\0", "\x8a\x08\0\0\0\0\0\0\0\x40\x85", "K\x01\x85"), /beyond 2\^53/],
    ["has a size of 2^40", tensorPickle("K\0", "\x8a\x06\0\0\0\0\0\x01\x85", "K\x01\x85"), /leaves its storage/],
    ["asks for eval", "\x80\x02c__builtin__\neval\nX\x01\0\0\x001\x85R.", /"__builtin__\.eval"/],
    ["asks for eval by STACK_GLOBAL", "\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", /"builtins\.eval"/],
    ["asks for constructor", "\x80\x02cconstructor\nconstructor\n.", /"constructor\.constructor"/],
    ["names a global by a number", "\x80\x04K\x01K\x02\x93.", /names a global by 1/],
    ["uses INST", "\x80\x02(ios\nsystem\n.", /opcode 0x69/],
    ["uses NEWOBJ", "\x80\x02ccollections\nOrderedDict\n)\x81.", /opcode 0x81/],
    ["uses EXT1", "\x80\x02\x82\x01.", /opcode 0x82/],
    ["has a foreign persistent id", "\x80\x02X\x01\0\0\0aQ.", /persistent id/],
    ["makes a storage directly", "\x80\x02ctorch\nFloatStorage\n)R.", /not in the archive/],
    ["calls a number", "\x80\x02K\x01)R.", /calls what is no function/],
    ["takes from an empty stack", "\x80\x02.", /takes more/],
    ["takes across a mark", "\x80\x02K\x01(\x85.", /takes more/],
    ["closes an unopened list", "\x80\x02t.", /never opened/],
    ["recalls what it never stored", "\x80\x02h\x07.", /never stored/],
    ["has a dict as a key", "\x80\x02}}K\x01s.", /keys/],
    ["appends to a number", "\x80\x02K\x01K\x02a.", /no list/],
    ["sets attributes of a list", "\x80\x02]}b.", /attributes/],
    ["has a text of 4 GB", "\x80\x02X\xff\xff\xff\xff.", /text of 4294967295 bytes/],
    ["has a text that is no UTF-8", "\x80\x02X\x01\0\0\0\xff.", /not UTF-8/],
    ["has no end", "\x80\x02K\x01", /truncated/],
    ["holds a number", "\x80\x02K\x01.", /must hold a dict/],
  ])("one that %s", async (_, pickle, message) => {
    const outcome = await archive(pickle)
      .then(openTorchPickle)
      .catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(CheckpointError);
    expect((outcome as Error).message).toMatch(message);
  });

  it("refuses a storage that is missing or too short, and archives without one pickle", async () => {
    const honest = tensorPickle("K\0", "K\x04\x85", "K\x01\x85");
    await expect(archive(honest, new Uint8Array(15)).then(openTorchPickle)).rejects.toThrow(
      /must have 16 bytes, it has 15/,
    );
    await expect(makeArchive({ "a/data.pkl": latin(honest) }).then(openTorchPickle)).rejects.toThrow(/is missing/);
    await expect(makeArchive({ "a/data/0": latin("") }).then(openTorchPickle)).rejects.toThrow(/has 0/);
    await expect(
      makeArchive({ "a/data.pkl": latin(honest), "b/data.pkl": latin(honest) }).then(openTorchPickle),
    ).rejects.toThrow(/has 2/);
  });

  it("does not follow nests of references", async () => {
    // Twenty lists, each of ten references to the one before: 10^20 items if anything walked them.
    const recallTen = (i: number): string => `h${String.fromCharCode(i)}`.repeat(10);
    const nest = Array.from({ length: 20 }, (_, i) => `](${recallTen(i)}eq${String.fromCharCode(i + 1)}`).join("");
    await expect(archive(`\x80\x02]q\0${nest}.`).then(openTorchPickle)).rejects.toThrow(/must hold a dict/);
  });
});
