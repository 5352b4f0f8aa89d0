// Atomic writing: the old file or the new one, never a rest.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DataError } from "../core/errors.ts";
import { writeFileAtomic } from "./atomic.ts";
import { folderSource } from "./folder-node.ts";
import { writeSafetensors } from "./safetensors-write.ts";
import { openSafetensors } from "./safetensors.ts";

let folder = "";
let path = "";

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-atomic-"));
  path = join(folder, "file.txt");
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

/** An error as the system gives it. */
const systemError = (code: string): Error => Object.assign(new Error(`${code}: no`), { code });

describe("writeFileAtomic", () => {
  it("writes texts, bytes and pieces, and replaces what was there", async () => {
    await writeFileAtomic(path, "größe");
    expect(await readFile(path, "utf8")).toBe("größe");
    await writeFileAtomic(path, Uint8Array.of(1, 2, 3));
    expect([...(await readFile(path))]).toEqual([1, 2, 3]);
    await writeFileAtomic(path, async (write) => {
      await write(Uint8Array.of(4));
      await write(new Uint8Array(3_000_000));
      expect(await readdir(folder)).toHaveLength(2);
    });
    expect((await readFile(path)).length).toBe(3_000_001);
    expect(await readdir(folder)).toEqual(["file.txt"]);
  });

  it.each(["ENOSPC", "EDQUOT", "EIO", "EACCES", "EROFS"])(
    "leaves the old file and no temporary one when the system says %s",
    async (code) => {
      await writeFile(path, "old");
      const writing = writeFileAtomic(path, async (write) => {
        await write(new Uint8Array(100));
        throw systemError(code);
      });
      await expect(writing).rejects.toThrow(DataError);
      await expect(writing).rejects.toThrow(
        /file\.txt: cannot be written: .*(free some space|choose another folder|choose a folder).*unchanged/,
      );
      expect(await readdir(folder)).toEqual(["file.txt"]);
      expect(await readFile(path, "utf8")).toBe("old");
    },
  );

  it("lets other errors of the writer through", async () => {
    const writing = writeFileAtomic(path, () => Promise.reject(new RangeError("mine")));
    await expect(writing).rejects.toThrow(new RangeError("mine"));
    expect(await readdir(folder)).toEqual([]);
  });

  it("says what to do about a missing folder, a folder in the way, a file as a folder", async () => {
    await expect(writeFileAtomic(join(folder, "none", "x"), "")).rejects.toThrow(/make it first/);
    await mkdir(path);
    await expect(writeFileAtomic(path, "")).rejects.toThrow(DataError);
    expect(await readdir(folder)).toEqual(["file.txt"]);
    await writeFile(join(folder, "plain"), "");
    await expect(writeFileAtomic(join(folder, "plain", "x"), "")).rejects.toThrow(/part of the path is a file/);
  });
});

describe("writeSafetensors", () => {
  it("writes a file that reads back, in pieces", async () => {
    const values = Float32Array.from({ length: 700_000 }, (_, i) => i);
    await writeSafetensors(path, [{ name: "w", dtype: "F32", shape: [700, 1000], data: async () => values }]);
    const reader = await openSafetensors(await folderSource(folder).open("file.txt"));
    const target = new Float32Array(values.length);
    await reader.readFloat32("w", target);
    await reader.close();
    expect(target.every((value, i) => value === i)).toBe(true);
  });

  it("keeps the old file when a tensor fails on the way", async () => {
    await writeFile(path, "old");
    const good = { name: "a", dtype: "F32", shape: [1], data: () => new Float32Array(1) } as const;
    const bad = { name: "b", dtype: "F32", shape: [1], data: () => Promise.reject(systemError("ENOSPC")) } as const;
    await expect(writeSafetensors(path, [good, bad])).rejects.toThrow(/disk is full/);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["file.txt"]);
  });
});
