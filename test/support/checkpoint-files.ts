// A checkpoint's files in memory, and their tensors, for tests that change them.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FileSource } from "../../src/io/index.ts";
import { encodeSafetensors, memorySource, openTensors } from "../../src/io/index.ts";
import type { FloatDType } from "../../src/models/checkpoint/layout.ts";
import { saveMamba } from "../../src/models/mamba/checkpoint.ts";
import type { MambaModel } from "../../src/models/mamba/model.ts";

export type Files = Record<string, Uint8Array>;
export type Arrays = Map<string, { shape: readonly number[]; data: Float32Array }>;

/** All files of a folder. */
export async function filesOf(folder: string): Promise<Files> {
  const names = await readdir(folder);
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))])));
}

/** What saveMamba writes. */
export async function savedFiles(model: MambaModel, dtype: FloatDType = "F32"): Promise<Files> {
  const folder = await mkdtemp(join(tmpdir(), "mamba-saved-"));
  try {
    await saveMamba(model, folder, { dtype });
    return await filesOf(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** All tensors of a checkpoint, as float32. */
export async function readArrays(source: FileSource): Promise<Arrays> {
  const reader = await openTensors(source);
  const arrays: Arrays = new Map();
  for (const { name, shape } of reader.tensors.values()) {
    const data = new Float32Array(shape.reduce((product, axis) => product * axis, 1));
    await reader.readFloat32(name, data);
    arrays.set(name, { shape, data });
  }
  await reader.close();
  return arrays;
}

/** The files with other tensors in model.safetensors. */
export async function withArrays(files: Files, change: (arrays: Arrays) => void): Promise<Files> {
  const arrays = await readArrays(memorySource(files));
  change(arrays);
  const tensors = [...arrays].map(([name, { shape, data }]) => ({
    name,
    dtype: "F32" as const,
    shape,
    data: () => data,
  }));
  return { ...files, "model.safetensors": await encodeSafetensors(tensors) };
}

/** The files with other fields in config.json; undefined takes a field out. */
export function withConfig(files: Files, fields: Record<string, unknown>): Files {
  const config = JSON.parse(new TextDecoder().decode(files["config.json"])) as Record<string, unknown>;
  return { ...files, "config.json": new TextEncoder().encode(JSON.stringify({ ...config, ...fields })) };
}
