// Damaged files by the thousand: each is read, or refused with one of our errors, soon; nothing else may happen.
import { readFile } from "node:fs/promises";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { damage, damages } from "../../test/fixtures/io/archive.ts";
import { CheckpointError, DTypeError } from "../core/errors.ts";
import { memoryFile } from "./file-source.ts";
import { unpickle } from "./pickle.ts";
import { encodeSafetensors } from "./safetensors-write.ts";
import { openSafetensors } from "./safetensors.ts";
import { memorySource } from "./source.ts";
import { elementsOf } from "./tensor-info.ts";
import type { TensorReader } from "./tensor-info.ts";
import { openTensors } from "./tensors.ts";
import { torchHost } from "./torch-globals.ts";
import { openTorchPickle } from "./torch-pickle.ts";
import { listZip, findEntryData } from "./torch-zip.ts";

const RUNS = 3000;
const SLOWEST_MS = 2000;
/** Damage that nobody notices is rare in every format: at least this many copies must be refused. */
const FEWEST_REFUSED = RUNS / 10;

/** Opens and reads everything; gives whether the file was good. */
async function outcomeOf(open: () => Promise<TensorReader>): Promise<"read" | "refused"> {
  const start = performance.now();
  try {
    const reader = await open();
    for (const info of reader.tensors.values()) {
      // More than the file can hold would be an error of the parser.
      expect(elementsOf(info.shape)).toBeLessThan(100_000);
      await reader.readFloat32(info.name, new Float32Array(elementsOf(info.shape)));
      if (["I32", "I16", "I8"].includes(info.dtype))
        await reader.readInt32(info.name, new Int32Array(elementsOf(info.shape)));
    }
    return "read";
  } catch (error) {
    if (!(error instanceof CheckpointError || error instanceof DTypeError)) throw error;
    return "refused";
  } finally {
    expect(performance.now() - start).toBeLessThan(SLOWEST_MS);
  }
}

/** Damages a file in many ways; gives how many copies were refused. */
async function fuzz(bytes: Uint8Array, open: (damaged: Uint8Array) => Promise<TensorReader>): Promise<number> {
  expect(await outcomeOf(() => open(bytes))).toBe("read");
  const counts = { read: 0, refused: 0 };
  const property = fc.asyncProperty(damages, async (list) => {
    counts[await outcomeOf(() => open(damage(bytes, list)))]++;
  });
  await fc.assert(property, { numRuns: RUNS, seed: 2026 });
  return counts.refused;
}

async function safetensorsFile(): Promise<Uint8Array> {
  return encodeSafetensors([
    { name: "a", dtype: "F32", shape: [2, 3], data: () => new Float32Array(6) },
    { name: "b", dtype: "BF16", shape: [4], data: () => new Float32Array(4) },
    { name: "c", dtype: "I64", shape: [], data: () => new Int32Array(1) },
  ]);
}

const torchFile = (): Promise<Uint8Array> =>
  readFile(new URL("../../test/fixtures/io/torch-tensors.bin", import.meta.url)).then((bytes) => new Uint8Array(bytes));

describe("damaged files", () => {
  it("safetensors", async () => {
    const refused = await fuzz(await safetensorsFile(), (bytes) => openSafetensors(memoryFile("f", bytes)));
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });

  it("safetensors whose header length is right", async () => {
    const good = await safetensorsFile();
    const length = Number(new DataView(good.buffer).getBigUint64(0, true));
    const refused = await fuzz(good.subarray(8, 8 + length), (header) => {
      const bytes = new Uint8Array(8 + header.length + good.length - 8 - length);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
      bytes.set(header, 8);
      return openSafetensors(memoryFile("f", bytes));
    });
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });

  it("an index of shards", async () => {
    const shard = await safetensorsFile();
    const index = new TextEncoder().encode(
      JSON.stringify({
        metadata: { total_size: 48 },
        weight_map: { a: "1.safetensors", b: "1.safetensors", c: "2.safetensors" },
      }),
    );
    const files = { "1.safetensors": shard, "2.safetensors": shard };
    const refused = await fuzz(index, (bytes) =>
      openTensors(memorySource({ "model.safetensors.index.json": bytes, ...files })),
    );
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });

  it("an archive of torch.save", async () => {
    const refused = await fuzz(await torchFile(), (bytes) => openTorchPickle(memoryFile("f", bytes)));
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });

  it("the pickle inside it", async () => {
    const good = await torchFile();
    const file = memoryFile("f", good);
    const entries = await listZip(file);
    const entry = [...entries.values()].find(({ name }) => name.endsWith("data.pkl"));
    if (entry === undefined) throw new Error("the fixture has no data.pkl");
    const start = await findEntryData(file, entry);
    // In place, so that the archive around it stays whole: what damage makes longer is cut, what it makes shorter is filled with zeros.
    const refused = await fuzz(good.slice(start, start + entry.size), (pickle) => {
      const bytes = good.slice();
      bytes.fill(0, start, start + entry.size);
      bytes.set(pickle.subarray(0, entry.size), start);
      return openTorchPickle(memoryFile("f", bytes));
    });
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });

  it("random opcodes", () => {
    const opcodes = fc.constantFrom(
      ...[..."(t\x85\x86\x87aesucR\x93bQqhjrN\x88\x89JKMG)]}X\x8c\x8a\x94\x80\x95."].map((character) =>
        character.charCodeAt(0),
      ),
    );
    const programs = fc.array(
      fc.oneof({ arbitrary: opcodes, weight: 4 }, { arbitrary: fc.integer({ min: 0, max: 255 }), weight: 1 }),
      { maxLength: 60 },
    );
    let refused = 0;
    const property = fc.property(programs, (program) => {
      try {
        unpickle(Uint8Array.from(program), torchHost("f"), "f");
      } catch (error) {
        if (!(error instanceof CheckpointError)) throw error;
        refused++;
      }
    });
    fc.assert(property, { numRuns: 20_000, seed: 2026 });
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });
});
