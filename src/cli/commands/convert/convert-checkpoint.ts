// What mamba convert adds to convertModel: the tokenizer comes along, and a folder that holds a checkpoint is not written over.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { DataError } from "../../../core/errors.ts";
import type { FileSource } from "../../../io/index.ts";
import type { Converted, ConvertOptions } from "../../../models/checkpoint/save.ts";
import { convertModel, loadConfig } from "../../../models/auto.ts";
import { loadTokenizer } from "../../../tokenizers/load.ts";

const CHECKPOINT_FILES = ["config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/**
 * Writes `source` into `folder`. The tokenizer's files come along where there are any.
 * @throws CheckpointError, ConfigError (damaged, or its files do not fit each other), DataError (the folder is taken or cannot be written)
 */
export async function convertCheckpoint(
  source: FileSource,
  folder: string,
  { isForced = false, ...options }: Omit<ConvertOptions, "files"> & { isForced?: boolean },
): Promise<Converted> {
  const { vocabSize } = await loadConfig(source);
  const read = async (name: string): Promise<string | undefined> =>
    (await source.has(name)) ? source.readText(name) : undefined;
  const tokenizer = await loadTokenizer(read, vocabSize, source.description);
  if (!isForced) await refuseCheckpoint(folder);
  return convertModel(source, folder, { ...options, files: tokenizer?.files() });
}

async function refuseCheckpoint(folder: string): Promise<void> {
  for (const name of CHECKPOINT_FILES) {
    const isThere = await stat(join(folder, name)).then(
      () => true,
      () => false,
    );
    if (isThere)
      throw new DataError(
        `${folder}: holds a checkpoint already (${name}). Choose another --out, or give --force to replace it.`,
      );
  }
}
