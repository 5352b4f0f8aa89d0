// CheckpointLayout: what a family's files call its tensors and how these make up a model's parameters, both ways.
import { CheckpointError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import { formatShape, isSameShape, sizeOf } from "../../core/shape.ts";
import type { TensorInfo, TensorReader } from "../../io/index.ts";
import type { Parameter } from "../../tensor/parameter.ts";

/** Element types that are written. */
export type FloatDType = "F32" | "F16" | "BF16";

/** With I8 the weights of products and look-ups are whole numbers from -127 to 127, each row with a scale of its own. */
export type SaveDType = FloatDType | "I8";

/** What config.json calls them; of I8 the type of the other weights. */
export const CONFIG_NAMES: Readonly<Record<SaveDType, "float32" | "float16" | "bfloat16">> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I8: "float32",
};

/** A run of elements that a tensor of a file and a parameter share. */
export interface Piece {
  readonly parameter: string;
  /** First element in the parameter, and in the file's tensor. */
  readonly start: number;
  readonly fileStart: number;
  readonly count: number;
}

/** A tensor of a file. */
export interface FileTensor {
  readonly shape: Shape;
  /** Whether it is only used in products and look-ups of rows, so that it may be quantised. */
  readonly isPackable: boolean;
  /** All its elements, in their order. */
  readonly pieces: readonly Piece[];
}

/** How one model is written in one family's files. */
export interface CheckpointLayout {
  /** In the order in which they are written. */
  readonly tensors: ReadonlyMap<string, FileTensor>;
  /** The name among {@link tensors} that a file's name means. Default: the same. */
  readonly canonicalName?: (name: string) => string;
  /** Whether a tensor that is none of {@link tensors} may be left out (a tied head, a buffer). */
  readonly isIgnored: (name: string) => boolean;
  /** config.json, generation_config.json, in the order to write them: a folder with config.json is whole. */
  readonly configFiles: (dtype: SaveDType) => Record<string, string>;
}

/** Behind the name of an I8 tensor: the name of its scales, F32, one a row. */
export const SCALE = "_scale";

const BELONGS = "Does config.json belong to these weights?";
/** The first number that float16 rounds to infinity. */
const BEYOND_FLOAT16 = 65520;
/** The first float32 that bfloat16 rounds to infinity. */
const BEYOND_BFLOAT16 = 2 ** 128 - 2 ** 119;

/** A tensor that is one parameter; `shape` where the file says the same elements under another. */
export function wholeTensor(parameter: string, { shape, isPackable }: Parameter, fileShape: Shape = shape): FileTensor {
  return { shape: fileShape, isPackable, pieces: [{ parameter, start: 0, fileStart: 0, count: sizeOf(shape) }] };
}

/**
 * The tensor of a file for each of the layout's, all of them checked before the first is read.
 * @throws CheckpointError when one is missing, has no place in the model, comes twice, or has another shape
 */
export function matchTensors(layout: CheckpointLayout, reader: TensorReader, where: string): Map<string, TensorInfo> {
  const { tensors, canonicalName = (name: string): string => name, isIgnored } = layout;
  const found = new Map<string, TensorInfo>();
  for (const info of reader.tensors.values()) {
    const name = canonicalName(info.name);
    const other = found.get(name);
    if (other)
      throw new CheckpointError(
        `${info.file}: ${other.name} and ${info.name} are two names of one tensor. Keep the one that belongs to the model.`,
      );
    found.set(name, info);
  }
  const missing = [...tensors.keys()].filter((name) => !found.has(name));
  if (missing.length > 0)
    throw new CheckpointError(`${where}: ${firstOf(missing)} ${missing.length > 1 ? "are" : "is"} missing. ${BELONGS}`);
  const isScale = (name: string): boolean =>
    name.endsWith(SCALE) && found.get(name.slice(0, -SCALE.length))?.dtype === "I8";
  const extra = [...found.keys()].filter((name) => !tensors.has(name) && !isIgnored(name) && !isScale(name));
  if (extra.length > 0)
    throw new CheckpointError(
      `${where}: ${firstOf(extra)} ${extra.length > 1 ? "have" : "has"} no place in this model. ${BELONGS}`,
    );
  return new Map([...tensors].map(([name, { shape }]) => [name, checkShape(found.get(name)!, shape)]));
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
export function checkWritable(values: Float32Array, dtype: SaveDType, info: Pick<TensorInfo, "file" | "name">): void {
  checkFinite(values, info);
  if (dtype === "F32" || dtype === "I8") return;
  const beyond = dtype === "F16" ? BEYOND_FLOAT16 : BEYOND_BFLOAT16;
  const bad = values.find((value) => Math.abs(value) >= beyond);
  if (bad === undefined) return;
  const remedy = dtype === "F16" ? "bfloat16 or float32 (bf16, f32)" : "float32 (f32)";
  throw new CheckpointError(
    `${info.file}: ${info.name} holds ${bad}, beyond ${CONFIG_NAMES[dtype]}. Write it as ${remedy}.`,
  );
}

/** JSON as it is written into files. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** generation_config.json of a model that may have a token which ends a text. */
export function generationConfig(eosTokenId: number | undefined): {
  bos_token_id: number | null;
  eos_token_id: number | null;
  pad_token_id: number | null;
} {
  const id = eosTokenId ?? null;
  return { bos_token_id: id, eos_token_id: id, pad_token_id: id };
}
