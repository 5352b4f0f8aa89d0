// Reads golden vectors: safetensors files with inputs, outputs and gradients.
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { memorySource, openSafetensors } from "../../src/io/index.ts";

export interface Golden {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Path of a file or folder under test/fixtures. */
export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}

/** All tensors of a fixture as float32, and its metadata. */
export async function readGolden(
  name: string,
): Promise<{ tensors: Map<string, Golden>; metadata: Readonly<Record<string, string>> }> {
  const file = basename(name);
  const source = memorySource({ [file]: new Uint8Array(await readFile(fixturePath(name))) });
  const reader = await openSafetensors(await source.open(file));
  const tensors = new Map<string, Golden>();
  for (const [key, { shape }] of reader.tensors) {
    const data = new Float32Array(shape.reduce((product, axis) => product * axis, 1));
    await reader.readFloat32(key, data);
    tensors.set(key, { shape, data });
  }
  return { tensors, metadata: reader.metadata };
}
