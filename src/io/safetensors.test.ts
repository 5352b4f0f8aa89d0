// Safetensors: what is written is read back, and every way a header can lie is refused.
import { describe, expect, it } from "vitest";
import { CheckpointError, DTypeError, ShapeError, UsageError } from "../core/errors.ts";
import { memoryFile } from "./file-source.ts";
import { encodeSafetensors } from "./safetensors-write.ts";
import type { TensorToWrite } from "./safetensors-write.ts";
import { openSafetensors } from "./safetensors.ts";
import type { TensorReader } from "./tensor-info.ts";

/** A file of this header and so many bytes of data: 0, 1, 2, ... */
function file(header: unknown, dataBytes: number, declaredLength?: number): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(declaredLength ?? json.length), true);
  bytes.set(json, 8);
  for (let i = 0; i < dataBytes; i++) bytes[8 + json.length + i] = i;
  return bytes;
}

function open(bytes: Uint8Array): Promise<TensorReader> {
  return openSafetensors(memoryFile("t.safetensors", bytes));
}

async function readAll(reader: TensorReader, name: string): Promise<number[]> {
  const size = reader.tensors.get(name)?.shape.reduce((product, axis) => product * axis, 1) ?? 0;
  const target = new Float32Array(size);
  await reader.readFloat32(name, target);
  return [...target];
}

const floats = (name: string, dtype: "F32" | "F16" | "BF16", values: number[]): TensorToWrite => ({
  name,
  dtype,
  shape: [values.length],
  data: () => Float32Array.from(values),
});

describe("reading", () => {
  it("gives every dtype as float32", async () => {
    const header = {
      f64: { dtype: "F64", shape: [1], data_offsets: [0, 8] },
      i64: { dtype: "I64", shape: [1], data_offsets: [8, 16] },
      i16: { dtype: "I16", shape: [2], data_offsets: [16, 20] },
      i8: { dtype: "I8", shape: [1], data_offsets: [20, 21] },
      u8: { dtype: "U8", shape: [2], data_offsets: [21, 23] },
      bool: { dtype: "BOOL", shape: [1], data_offsets: [23, 24] },
    };
    const bytes = file(header, 24);
    const data = new DataView(bytes.buffer, bytes.length - 24);
    data.setFloat64(0, -1.5, true);
    data.setBigInt64(8, -7n, true);
    data.setInt16(16, -300, true);
    data.setInt8(20, -128);
    const reader = await open(bytes);
    const got = await Promise.all(Object.keys(header).map((name) => readAll(reader, name)));
    expect(got).toEqual([[-1.5], [-7], [-300, 0x1312], [-128], [21, 22], [23]]);
  });

  it("reads runs of elements, across pieces of 1 MiB, into shared memory", async () => {
    const values = Float32Array.from({ length: 600_000 }, (_, i) => i);
    const reader = await open(
      await encodeSafetensors([{ name: "big", dtype: "F32", shape: [600, 1000], data: () => values }]),
    );
    const target = new Float32Array(new SharedArrayBuffer(4 * 500_000));
    await reader.readFloat32("big", target, { start: 99_999, count: 500_000 });
    expect(target.every((value, i) => value === i + 99_999)).toBe(true);
  });

  it("reads integers, and refuses floats and values beyond int32", async () => {
    const reader = await open(
      await encodeSafetensors([
        { name: "i32", dtype: "I32", shape: [2], data: () => Int32Array.of(-1, 2) },
        { name: "i64", dtype: "I64", shape: [2], data: () => Int32Array.of(-(2 ** 31), 2 ** 31 - 1) },
        floats("f", "F32", [1]),
      ]),
    );
    const target = new Int32Array(2);
    await reader.readInt32("i32", target);
    expect([...target]).toEqual([-1, 2]);
    await reader.readInt32("i64", target);
    expect([...target]).toEqual([-(2 ** 31), 2 ** 31 - 1]);
    await expect(reader.readInt32("f", target)).rejects.toThrow(DTypeError);
    const wide = await open(file({ a: { dtype: "I64", shape: [1], data_offsets: [0, 8] } }, 8));
    await expect(wide.readInt32("a", target)).rejects.toThrow(/outside -2\^31/);
  });

  it("says what there is when a name, a range or a target does not fit", async () => {
    const reader = await open(await encodeSafetensors([floats("weight", "F32", [1, 2])]));
    await expect(reader.readFloat32("wieght", new Float32Array(2))).rejects.toThrow(
      /no tensor "wieght"; there are "weight"/,
    );
    await expect(reader.readFloat32("weight", new Float32Array(1))).rejects.toThrow(ShapeError);
    await expect(reader.readFloat32("weight", new Float32Array(9), { start: 1, count: 2 })).rejects.toThrow(ShapeError);
    await expect(reader.readFloat32("weight", new Float32Array(9), { start: -1 })).rejects.toThrow(ShapeError);
  });

  it("keeps names such as __proto__ and a scalar and an empty tensor", async () => {
    const header = `{"__proto__":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"empty":{"dtype":"F32","shape":[0,3],"data_offsets":[4,4]},"__metadata__":{"__proto__":"x"}}`;
    const reader = await open(file(header, 4));
    expect([...reader.tensors.keys()]).toEqual(["__proto__", "empty"]);
    expect(Object.entries(reader.metadata)).toEqual([["__proto__", "x"]]);
    expect(await readAll(reader, "empty")).toEqual([]);
    expect(({} as Record<string, unknown>)["dtype"]).toBeUndefined();
  });
});

describe("refusing", () => {
  const tensor = (fields: object): object => ({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...fields } });
  const cases: [string, Uint8Array, RegExp][] = [
    ["an empty file", new Uint8Array(0), /8 bytes of header length/],
    ["a header of no bytes", file("", 0), /claims 0/],
    ["a header longer than the file", file({}, 0, 100), /claims 100/],
    ["a header of 2^63 bytes", Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 128, 0), /claims 9223372036854775808/],
    ["no JSON", file("{]", 0), /not valid JSON/],
    ["a list", file("[]", 0), /JSON object/],
    ["bytes that are no UTF-8", file({}, 0).fill(0xff, 8), /UTF-8/],
    ["metadata of numbers", file({ __metadata__: { a: 1 } }, 0), /__metadata__/],
    ["an entry that is no object", file({ a: 1 }, 0), /dtype/],
    ["an unknown dtype", file(tensor({ dtype: "F8_E4M3" }), 8), /"F8_E4M3"/],
    ["dtype constructor", file(tensor({ dtype: "constructor" }), 8), /constructor/],
    ["a nested dtype", file(tensor({ dtype: [[1]] }), 8), /got a list/],
    ["a negative axis", file(tensor({ shape: [-2] }), 8), /non-negative/],
    ["a fractional axis", file(tensor({ shape: [1.5] }), 8), /non-negative/],
    ["a product that overflows", file(tensor({ shape: [2 ** 40, 2 ** 40] }), 8), /too many elements/],
    ["too many axes", file(tensor({ shape: Array.from({ length: 33 }, () => 1) }), 8), /at most 32/],
    ["three offsets", file(tensor({ data_offsets: [0, 4, 8] }), 8), /data_offsets/],
    ["offsets in the wrong order", file(tensor({ data_offsets: [8, 0] }), 8), /not within/],
    ["offsets beyond the file", file(tensor({ data_offsets: [0, 16], shape: [4] }), 8), /truncated/],
    [
      "a length that is not the shape's",
      file(tensor({ data_offsets: [0, 4] }), 8),
      /takes 8 bytes, the header gives it 4/,
    ],
    ["an overlap", file({ ...tensor({}), b: { dtype: "F32", shape: [2], data_offsets: [4, 12] } }, 12), /overlaps/],
    ["a hole", file({ ...tensor({}), b: { dtype: "F32", shape: [1], data_offsets: [12, 16] } }, 16), /hole/],
    [
      "a hole left by a duplicate key",
      file(
        `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`,
        8,
      ),
      /hole/,
    ],
    ["data after the last tensor", file(tensor({}), 9), /end at byte/],
  ];
  it.each(cases)("%s", async (_, bytes, message) => {
    const outcome = await open(bytes).catch((error: unknown) => error);
    expect(outcome).toSatisfy((error) => error instanceof CheckpointError || error instanceof DTypeError);
    expect((outcome as Error).message).toMatch(message);
    expect((outcome as Error).message).toMatch(/^t\.safetensors: /);
  });
});

describe("writing", () => {
  it("writes the bytes of the format: length, padded header, aligned data", async () => {
    const bytes = await encodeSafetensors([floats("h", "F16", [1, -2]), floats("w", "F32", [0.5])]);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(length % 8).toBe(0);
    expect(new TextDecoder().decode(bytes.subarray(8, 8 + length)).trimEnd()).toBe(
      `{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"h":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}}`,
    );
    expect([...bytes.subarray(8 + length)]).toEqual([0, 0, 0, 0x3f, 0, 0x3c, 0, 0xc0]);
  });

  it("gives back what it was given, in each dtype", async () => {
    const values = [0, -0, 1, 1 / 3, 65504, 1e-7, Infinity];
    const reader = await open(
      await encodeSafetensors(
        [floats("f32", "F32", values), floats("f16", "F16", values), floats("bf16", "BF16", values)],
        { who: "test" },
      ),
    );
    expect(reader.metadata).toEqual({ who: "test" });
    expect(await readAll(reader, "f32")).toEqual([...Float32Array.from(values)]);
    expect(await readAll(reader, "f16")).toEqual([0, -0, 1, 0.333251953125, 65504, 2 ** -23, Infinity]);
    expect(await readAll(reader, "bf16")).toEqual([0, -0, 1, 0.333984375, 65536, 1.0011717677116394e-7, Infinity]);
  });

  it("refuses names given twice, and data that are not as announced", async () => {
    await expect(encodeSafetensors([floats("a", "F32", [1]), floats("a", "F32", [1])])).rejects.toThrow(UsageError);
    await expect(encodeSafetensors([floats("__metadata__", "F32", [1])])).rejects.toThrow(UsageError);
    await expect(encodeSafetensors([{ ...floats("a", "F32", [1]), shape: [2] }])).rejects.toThrow(ShapeError);
    await expect(encodeSafetensors([{ ...floats("a", "F32", [1]), shape: [-1] }])).rejects.toThrow(ShapeError);
    await expect(encodeSafetensors([{ ...floats("a", "F32", [1]), dtype: "I32" }])).rejects.toThrow(DTypeError);
  });
});
