// How a checkpoint of Mamba-1 names, shapes and describes its tensors. Names are translated here and nowhere else.
// Source: transformers' models/mamba/modeling_mamba.py; state-spaces/mamba, models/mixer_seq_simple.py.
import { CheckpointError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import type { FileSource, TensorInfo, TensorReader } from "../../io/index.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import type { MambaConfig } from "./config.ts";
import { parseMambaConfig, toHuggingFaceConfig } from "./config.ts";

/** Element types that are written. */
export type FloatDType = "F32" | "F16" | "BF16";

const CONFIG_NAMES = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const satisfies Record<FloatDType, string>;
const BELONGS = "Does config.json belong to these weights?";
/** The first number that float16 rounds to infinity. */
const BEYOND_FLOAT16 = 65520;
/** The first float32 that bfloat16 rounds to infinity. */
const BEYOND_BFLOAT16 = 2 ** 128 - 2 ** 119;

/** Reads config.json of a checkpoint, in either dialect. Throws ConfigError, CheckpointError. */
export async function loadMambaConfig(source: FileSource): Promise<MambaConfig> {
  return parseMambaConfig(await source.readText("config.json"), `${source.description}: config.json`);
}

/** A parameter's shape in a file: conv1d.weight is [dInner, 1, dConv] (PyTorch's grouped convolution), [dInner, dConv] here. */
export function fileShape(name: string, shape: Shape): Shape {
  return name.endsWith("conv1d.weight") ? [shape[0], 1, shape[1]] : shape;
}

/** The name that transformers gives a tensor; state-spaces says `embedding` where transformers says `embeddings`. */
function huggingFaceName(name: string): string {
  return name.replace(/^backbone\.embedding\./, "backbone.embeddings.");
}

/**
 * The tensor of a file for each parameter, all of them checked before the first is read.
 * A tied head that is stored beside the embedding, as state-spaces does, is left out.
 * @throws CheckpointError when one is missing, has no place in the model, comes twice, or has another shape
 */
export function matchTensors(
  parameters: ReadonlyMap<string, Parameter>,
  reader: TensorReader,
  where: string,
): Map<string, TensorInfo> {
  const found = new Map<string, TensorInfo>();
  for (const info of reader.tensors.values()) {
    const name = huggingFaceName(info.name);
    const other = found.get(name);
    if (other)
      throw new CheckpointError(
        `${info.file}: ${other.name} and ${info.name} are two names of one tensor. Keep the one that belongs to the model.`,
      );
    found.set(name, info);
  }
  const missing = [...parameters.keys()].filter((name) => !found.has(name));
  if (missing.length > 0)
    throw new CheckpointError(`${where}: ${firstOf(missing)} ${missing.length > 1 ? "are" : "is"} missing. ${BELONGS}`);
  const extra = [...found.keys()].filter((name) => !parameters.has(name) && name !== "lm_head.weight");
  if (extra.length > 0)
    throw new CheckpointError(
      `${where}: ${firstOf(extra)} ${extra.length > 1 ? "have" : "has"} no place in this model. ${BELONGS}`,
    );
  return new Map(
    [...parameters].map(([name, { shape }]) => [name, checkShape(found.get(name)!, fileShape(name, shape))]),
  );
}

function checkShape(info: TensorInfo, shape: Shape): TensorInfo {
  if (isSameShape(info.shape, shape)) return info;
  throw new CheckpointError(
    `${info.file}: ${info.name} must be ${formatShape(shape)} as config.json says, got ${formatShape(info.shape)}. ${BELONGS}`,
  );
}

function firstOf(names: readonly string[]): string {
  return names.length === 1 ? `the tensor ${names[0]}` : `the tensor ${names[0]} and ${names.length - 1} more`;
}

/** Throws CheckpointError for a weight that is NaN or infinite. A sum of x - x is NaN as soon as one is: a pass without a branch. */
export function checkFinite(values: Float32Array, { file, name }: Pick<TensorInfo, "file" | "name">): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] - values[i];
  if (sum === 0) return;
  const bad = values.find((value) => !Number.isFinite(value));
  throw new CheckpointError(
    `${file}: ${name} holds ${bad}; weights must be finite numbers. The checkpoint is damaged, or its training diverged.`,
  );
}

/** Throws CheckpointError for weights that would not be finite in the file. */
export function checkWritable(values: Float32Array, dtype: FloatDType, info: Pick<TensorInfo, "file" | "name">): void {
  checkFinite(values, info);
  if (dtype === "F32") return;
  const beyond = dtype === "F16" ? BEYOND_FLOAT16 : BEYOND_BFLOAT16;
  const bad = values.find((value) => Math.abs(value) >= beyond);
  if (bad === undefined) return;
  const remedy = dtype === "F16" ? "bfloat16 or float32 (bf16, f32)" : "float32 (f32)";
  throw new CheckpointError(
    `${info.file}: ${info.name} holds ${bad}, beyond ${CONFIG_NAMES[dtype]}. Write it as ${remedy}.`,
  );
}

/** generation_config.json and config.json as transformers reads them, in the order to write them: a folder with config.json is whole. */
export function configFiles(config: MambaConfig, dtype: FloatDType): Record<string, string> {
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  const fields = toHuggingFaceConfig(config, CONFIG_NAMES[dtype]);
  const { bos_token_id, eos_token_id, pad_token_id } = fields;
  return {
    "generation_config.json": json({ bos_token_id, eos_token_id, pad_token_id }),
    "config.json": json(fields),
  };
}
