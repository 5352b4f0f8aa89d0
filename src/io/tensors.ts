// The tensors of a checkpoint folder, whichever of the four layouts it has: safetensors or PyTorch, one file or shards.
import { CheckpointError } from "../core/errors.ts";
import { isJsonObject, parseJson } from "./file-source.ts";
import type { FileSource, RandomAccessFile } from "./file-source.ts";
import { openSafetensors } from "./safetensors.ts";
import { findTensor } from "./tensor-info.ts";
import type { TensorInfo, TensorReader } from "./tensor-info.ts";
import { describe, isPlainFileName, quote, quoteSome } from "./text.ts";
import { openTorchPickle } from "./torch-pickle.ts";

export type { ElementRange, FileDType, TensorInfo, TensorReader } from "./tensor-info.ts";
export { openSafetensors } from "./safetensors.ts";
export { openTorchPickle } from "./torch-pickle.ts";

const MOST_SHARDS = 4096;

type OpenFormat = (file: RandomAccessFile) => Promise<TensorReader>;

/** Names of weights in the order of preference. */
const LAYOUTS: readonly { readonly name: string; readonly isIndex: boolean; readonly open: OpenFormat }[] = [
  { name: "model.safetensors", isIndex: false, open: openSafetensors },
  { name: "model.safetensors.index.json", isIndex: true, open: openSafetensors },
  { name: "pytorch_model.bin", isIndex: false, open: openTorchPickle },
  { name: "pytorch_model.bin.index.json", isIndex: true, open: openTorchPickle },
];

/**
 * Opens the weights of a checkpoint: model.safetensors, else model.safetensors.index.json with its shards, else pytorch_model.bin,
 * else pytorch_model.bin.index.json. Throws CheckpointError when none is there, or one is damaged, hostile or incomplete.
 */
export async function openTensors(source: FileSource): Promise<TensorReader> {
  for (const layout of LAYOUTS) {
    if (!(await source.has(layout.name))) continue;
    return layout.isIndex
      ? openShards(source, layout.name, layout.open)
      : openWeights(source, layout.name, layout.open);
  }
  throw new CheckpointError(
    `${source.description}: there are no weights: none of ${LAYOUTS.map((layout) => layout.name).join(", ")}. There are ${quoteSome(await source.list())}.`,
  );
}

/** Opens one file of weights, and closes it again when it is refused. */
async function openWeights(source: FileSource, name: string, open: OpenFormat): Promise<TensorReader> {
  const file = await source.open(name);
  try {
    await refuseLfsPointer(file);
    return await open(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** A repository cloned without Git LFS holds small texts in place of the weights. */
async function refuseLfsPointer(file: RandomAccessFile): Promise<void> {
  const prefix = "version https://git-lfs";
  if (file.size < prefix.length || file.size > 1024) return;
  const start = new Uint8Array(prefix.length);
  await file.read(0, start);
  if (new TextDecoder().decode(start) !== prefix) return;
  throw new CheckpointError(
    `${file.name}: this is a pointer of Git LFS, not the weights. Run "git lfs pull" in the folder.`,
  );
}

async function openShards(source: FileSource, indexName: string, open: OpenFormat): Promise<TensorReader> {
  const weightMap = readWeightMap(await source.readText(indexName), indexName);
  const readers = new Map<string, TensorReader>();
  try {
    for (const shard of new Set(weightMap.values())) {
      if (!(await source.has(shard))) {
        throw new CheckpointError(
          `${source.description}: ${indexName} names the shard ${quote(shard)}, which is missing. Download the folder again.`,
        );
      }
      readers.set(shard, await openWeights(source, shard, open));
    }
    return joinShards(indexName, weightMap, readers);
  } catch (error) {
    await closeAll(readers.values());
    throw error;
  }
}

/** Tensor name -> shard file name. Throws CheckpointError. */
function readWeightMap(text: string, indexName: string): Map<string, string> {
  const index = parseJson(text, indexName);
  const map = isJsonObject(index) ? index["weight_map"] : undefined;
  if (!isJsonObject(map))
    throw new CheckpointError(
      `${indexName}: weight_map must be an object {tensor name: file name}. It is damaged: download it again.`,
    );
  const weightMap = new Map<string, string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== "string" || !isPlainFileName(shard)) {
      throw new CheckpointError(
        `${indexName}: the shard of ${quote(name)} must be a plain file name in the same folder, got ${describe(shard)}. Refusing to read it.`,
      );
    }
    weightMap.set(name, shard);
  }
  const shards = new Set(weightMap.values()).size;
  if (shards > MOST_SHARDS)
    throw new CheckpointError(`${indexName}: at most ${MOST_SHARDS} shards are read, it names ${shards}.`);
  return weightMap;
}

function joinShards(
  indexName: string,
  weightMap: ReadonlyMap<string, string>,
  readers: ReadonlyMap<string, TensorReader>,
): TensorReader {
  const tensors = new Map<string, TensorInfo>();
  for (const [name, shard] of weightMap) {
    const info = readers.get(shard)?.tensors.get(name);
    if (info === undefined)
      throw new CheckpointError(
        `${indexName}: tensor ${quote(name)} should be in ${quote(shard)}, but is not. Index and shards do not belong together: download the folder again.`,
      );
    tensors.set(name, info);
  }
  const readerOf = (name: string): TensorReader =>
    findTensor(readers, findTensor(weightMap, name, indexName), indexName);
  const metadata = [...readers.values()].map((reader) => Object.entries(reader.metadata)).flat();
  return {
    tensors,
    metadata: Object.fromEntries(metadata),
    readFloat32: async (name, target, range) => readerOf(name).readFloat32(name, target, range),
    readInt32: async (name, target) => readerOf(name).readInt32(name, target),
    close: () => closeAll(readers.values()),
  };
}

async function closeAll(readers: Iterable<TensorReader>): Promise<void> {
  for (const reader of readers) await reader.close();
}
