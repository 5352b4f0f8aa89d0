// Copies a checkpoint tensor by tensor into the Hugging Face layout, without a device and without the model in memory.
// Source of the layouts: MATH.md A5.
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError, DataError } from "../../../core/errors.ts";
import type { Shape } from "../../../core/shape.ts";
import { formatShape, isSameShape, sizeOf } from "../../../core/shape.ts";
import type { FileSource, TensorInfo, TensorReader, TensorToWrite } from "../../../io/index.ts";
import { openTensors, writeFileAtomic, writeSafetensors } from "../../../io/index.ts";
import { messageOf } from "../../../io/text.ts";
import { loadMambaConfig } from "../../../models/mamba/checkpoint.ts";
import type { MambaConfig } from "../../../models/mamba/config.ts";
import { toHuggingFaceConfig } from "../../../models/mamba/config.ts";
import { MambaModel } from "../../../models/mamba/model.ts";
import { loadTokenizer } from "../../../tokenizers/load.ts";

type FloatDType = "F32" | "F16" | "BF16";

export interface ConvertOptions {
  /** Default: that of the file where all its tensors have one, else F32. */
  dtype?: FloatDType | undefined;
  /** Write where a checkpoint is already. */
  isForced?: boolean;
  /** Called after each tensor, with the share of all elements that are read. */
  onProgress?: (share: number) => void;
}

export interface Converted {
  readonly dtype: FloatDType;
  readonly tensors: number;
  readonly parameters: number;
  /** Names of the files that were written. */
  readonly files: readonly string[];
}

const NAMES = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;
const CHECKPOINT_FILES = ["config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"];

/**
 * Writes `source` into `folder`. The tokenizer's files come along where there are any.
 * @throws CheckpointError (damaged, or its tensors do not fit its configuration), DataError (the folder is taken or cannot be written)
 */
export async function convertCheckpoint(
  source: FileSource,
  folder: string,
  options: ConvertOptions,
): Promise<Converted> {
  const config = await loadMambaConfig(source);
  const reader = await openTensors(source);
  try {
    const infos = matchTensors(config, reader, source.description);
    const dtype = options.dtype ?? commonDType([...infos.values()]);
    const read = async (name: string): Promise<string | undefined> =>
      (await source.has(name)) ? source.readText(name) : undefined;
    const tokenizer = await loadTokenizer(read, config.vocabSize, source.description);
    await prepareFolder(folder, options.isForced ?? false);
    const parameters = [...infos.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    let done = 0;
    const tensors: TensorToWrite[] = [...infos].map(([name, info]) => ({
      name,
      dtype,
      shape: info.shape,
      data: async () => {
        const data = await readChecked(reader, info, dtype);
        done += data.length;
        options.onProgress?.(done / parameters);
        return data;
      },
    }));
    await writeSafetensors(join(folder, "model.safetensors"), tensors, { format: "pt" });
    const files = { ...configFiles(config, dtype), ...tokenizer?.files() };
    for (const [name, text] of Object.entries(files)) await writeFileAtomic(join(folder, name), text);
    return { dtype, tensors: tensors.length, parameters, files: ["model.safetensors", ...Object.keys(files)] };
  } finally {
    await reader.close();
  }
}

/** The tensors of the file by their Hugging Face names, in the model's order, each of the size that config.json says. */
function matchTensors(config: MambaConfig, reader: TensorReader, where: string): Map<string, TensorInfo> {
  const found = new Map<string, TensorInfo>();
  for (const [name, info] of reader.tensors)
    found.set(name.replace(/^backbone\.embedding\./, "backbone.embeddings."), info);
  if (config.tieEmbeddings) found.delete("lm_head.weight");
  const matched = new Map<string, TensorInfo>();
  for (const [name, { shape }] of new MambaModel(config).namedParameters()) {
    const info = found.get(name);
    if (!info || !isSameShape(withoutOnes(info.shape), withoutOnes(shape)))
      throw new CheckpointError(
        `${where}: ${name} must be ${formatShape(shape)} as config.json says, got ${info ? formatShape(info.shape) : "no such tensor"}. Does config.json belong to these weights?`,
      );
    matched.set(name, info);
    found.delete(name);
  }
  for (const name of found.keys())
    throw new CheckpointError(
      `${where}: ${name} has no place in this model. Does config.json belong to these weights?`,
    );
  return matched;
}

/** conv1d.weight is [dInner, 1, dConv] in a file (PyTorch's grouped convolution), [dInner, dConv] in the model. */
function withoutOnes(shape: Shape): Shape {
  return shape.filter((axis) => axis !== 1);
}

function commonDType(infos: readonly TensorInfo[]): FloatDType {
  const [{ dtype }] = infos;
  return (dtype === "F16" || dtype === "BF16") && infos.every((info) => info.dtype === dtype) ? dtype : "F32";
}

async function prepareFolder(folder: string, isForced: boolean): Promise<void> {
  for (const name of CHECKPOINT_FILES) {
    const isThere = await stat(join(folder, name)).then(
      () => true,
      () => false,
    );
    if (isThere && !isForced)
      throw new DataError(
        `${folder}: holds a checkpoint already (${name}). Choose another --out, or give --force to replace it.`,
      );
  }
  try {
    await mkdir(folder, { recursive: true });
  } catch (cause) {
    throw new DataError(`${folder}: the folder cannot be made: ${messageOf(cause)}. Choose another --out.`, { cause });
  }
}

/** The elements of a tensor, all of them finite in the file and in what is written. */
async function readChecked(reader: TensorReader, info: TensorInfo, dtype: FloatDType): Promise<Float32Array> {
  const data = new Float32Array(sizeOf(info.shape));
  await reader.readFloat32(info.name, data);
  // 65520 is the first number that float16 rounds to infinity.
  const most = dtype === "F16" ? 65520 : Infinity;
  const at = data.findIndex((value) => !(Math.abs(value) < most));
  if (at < 0) return data;
  if (Number.isFinite(data[at]))
    throw new CheckpointError(
      `${info.file}: ${info.name} holds ${data[at]}, beyond float16. Convert with --dtype bf16 or f32.`,
    );
  throw new CheckpointError(
    `${info.file}: ${info.name} holds ${data[at]}; weights must be finite numbers. The checkpoint is damaged.`,
  );
}

function configFiles(config: MambaConfig, dtype: FloatDType): Record<string, string> {
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  const fields = toHuggingFaceConfig(config, NAMES[dtype]);
  const { eos_token_id, bos_token_id, pad_token_id } = fields;
  return {
    "generation_config.json": json({ bos_token_id, eos_token_id, pad_token_id }),
    "config.json": json(fields),
  };
}
