// Checkpoints of Mamba-1: reads the Hugging Face and the state-spaces layouts, writes the Hugging Face layout.
// Source: MATH.md A5. Names are translated here and nowhere else.
import type { Backend } from "../../backends/backend.ts";
import { CheckpointError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import { formatShape, isSameShape, sizeOf } from "../../core/shape.ts";
import type { FileSource, TensorReader, TensorToWrite } from "../../io/index.ts";
import { makeFolder, openTensors, writeFileAtomic, writeSafetensors } from "../../io/index.ts";
import { createPackedWeight, unpackWeight } from "../../ops/linear/pack.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import type { Format, Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { MambaConfig } from "./config.ts";
import { parseMambaConfig, toHuggingFaceConfig } from "./config.ts";
import { MambaModel } from "./model.ts";

/** How weights lie in memory: f32 (packed for products), or int8 (quantised by rows). */
export type WeightDType = "f32" | "int8";

export interface LoadOptions {
  backend: Backend;
  /** Default f32. */
  dtype?: WeightDType;
  /** Keep the weights as training needs them, plain float32. Default false. */
  trainable?: boolean;
  /** Called after each tensor, with the share of all elements that are loaded. */
  onProgress?: (share: number) => void;
}

/** Elements read at a time: the float32 of a piece is all that lies beside the packed weights. */
const PIECE_ELEMENTS = 1 << 20;

/** Reads config.json of a checkpoint. */
export async function loadMambaConfig(source: FileSource): Promise<MambaConfig> {
  return parseMambaConfig(await source.readText("config.json"), `${source.description}: config.json`);
}

/**
 * Loads a checkpoint's configuration and weights onto a device.
 * @throws ConfigError, CheckpointError (missing, extra, misshapen tensors, NaN), BackendError (not enough memory)
 */
export async function loadMamba(source: FileSource, options: LoadOptions): Promise<MambaModel> {
  const config = await loadMambaConfig(source);
  const reader = await openTensors(source);
  const model = new MambaModel(config);
  try {
    const parameters = model.namedParameters();
    checkNames(parameters, reader, source);
    const total = model.parameterCount;
    let loaded = 0;
    for (const [name, parameter] of parameters) {
      parameter.assign(await loadParameter(name, parameter, reader, options));
      loaded += sizeOf(parameter.shape);
      options.onProgress?.(loaded / total);
    }
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    await reader.close();
  }
}

/** Loads the weights of a checkpoint into a model that exists, in place of its own (resuming a training run). */
export async function loadMambaWeights(model: MambaModel, source: FileSource): Promise<void> {
  const reader = await openTensors(source);
  try {
    const parameters = model.namedParameters();
    checkNames(parameters, reader, source);
    for (const [name, parameter] of parameters)
      parameter.assign(await loadParameter(name, parameter, reader, { backend: model.backend, trainable: true }));
  } finally {
    await reader.close();
  }
}

async function loadParameter(
  name: string,
  parameter: Parameter,
  reader: TensorReader,
  options: LoadOptions,
): Promise<Tensor> {
  const info = findInfo(reader, name)!;
  const { shape } = parameter;
  if (!isSameShape(info.shape, fileShape(name, shape)))
    throw new CheckpointError(
      `${info.file}: ${info.name} must be ${formatShape(fileShape(name, shape))} as config.json says, got ${formatShape(info.shape)}.`,
    );
  const format = parameter.isPackable && !options.trainable ? packedFormat(options.dtype ?? "f32") : "rows";
  const isPacked = format !== "rows";
  const [rows, columns] = isPacked ? (shape as [number, number]) : [1, sizeOf(shape)];
  const rowsPerPiece = isPacked ? Math.max(1, Math.floor(PIECE_ELEMENTS / columns)) : 1;
  const packed = isPacked ? createPackedWeight(options.backend, shape, format) : undefined;
  const whole = isPacked ? undefined : new Float32Array(columns);
  const piece = whole ?? new Float32Array(Math.min(rows, rowsPerPiece) * columns);
  for (let row = 0; row < rows; row += rowsPerPiece) {
    const count = Math.min(rowsPerPiece, rows - row) * columns;
    const values = piece.subarray(0, count);
    await reader.readFloat32(info.name, values, { start: row * columns, count });
    checkFinite(values, info.file, info.name);
    packed?.writeRows(row, values);
  }
  return packed ? packed.tensor : tensorFrom(options.backend, piece, shape);
}

function packedFormat(dtype: WeightDType): Format {
  return dtype === "int8" ? "int8" : "panels";
}

/** A sum of x - x is NaN as soon as one x is NaN or infinite: one pass without a branch. */
function checkFinite(values: Float32Array, file: string, name: string): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i] - values[i];
  if (sum === 0) return;
  const at = values.findIndex((value) => !Number.isFinite(value));
  throw new CheckpointError(
    `${file}: ${name} holds ${values[at]}; weights must be finite numbers. The checkpoint is damaged, or its training diverged.`,
  );
}

/** What a file may call a parameter: the Hugging Face name, then the state-spaces one. */
function fileNames(name: string): string[] {
  return [name, name.replace("backbone.embeddings.", "backbone.embedding.")];
}

function findInfo(reader: TensorReader, name: string): ReturnType<TensorReader["tensors"]["get"]> {
  for (const candidate of fileNames(name)) {
    const info = reader.tensors.get(candidate);
    if (info) return info;
  }
  return undefined;
}

/** conv1d.weight is [dInner, 1, dConv] in a file (PyTorch's grouped convolution), [dInner, dConv] here. */
function fileShape(name: string, shape: Shape): Shape {
  return name.endsWith("conv1d.weight") ? [shape[0], 1, shape[1]] : shape;
}

function checkNames(parameters: ReadonlyMap<string, Parameter>, reader: TensorReader, source: FileSource): void {
  const missing = [...parameters.keys()].filter((name) => !findInfo(reader, name));
  if (missing.length > 0)
    throw new CheckpointError(
      `${source.description}: ${missing.length} tensors are missing, first ${missing[0]}. Does config.json belong to these weights?`,
    );
  const known = new Set([...parameters.keys(), "lm_head.weight"].flatMap(fileNames));
  const extra = [...reader.tensors.keys()].filter((name) => !known.has(name));
  if (extra.length > 0)
    throw new CheckpointError(
      `${source.description}: ${extra.length} tensors have no place in this model, first ${extra[0]}. Does config.json belong to these weights?`,
    );
}

export interface SaveOptions {
  /** Element type in the file; default F32. */
  dtype?: "F32" | "F16" | "BF16";
  /** Other files of the folder, by name: the tokenizer's. */
  files?: Readonly<Record<string, string>>;
}

/**
 * Writes a folder that Hugging Face transformers loads: config.json, generation_config.json, model.safetensors and the
 * given files. Each file appears whole or not at all.
 */
export async function saveMamba(
  model: MambaModel,
  folder: string,
  { dtype = "F32", files = {} }: SaveOptions = {},
): Promise<void> {
  const names = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;
  const config = toHuggingFaceConfig(model.config, names[dtype]);
  const tensors: TensorToWrite[] = [...model.namedParameters()].map(([name, parameter]) => ({
    name,
    dtype,
    shape: fileShape(name, parameter.shape),
    data: () => readParameter(parameter),
  }));
  await makeFolder(folder);
  await writeSafetensors(`${folder}/model.safetensors`, tensors, { format: "pt" });
  await writeFileAtomic(`${folder}/config.json`, `${JSON.stringify(config, null, 2)}\n`);
  const { eos_token_id, bos_token_id, pad_token_id } = config;
  await writeFileAtomic(
    `${folder}/generation_config.json`,
    `${JSON.stringify({ bos_token_id, eos_token_id, pad_token_id }, null, 2)}\n`,
  );
  for (const [name, text] of Object.entries(files)) await writeFileAtomic(`${folder}/${name}`, text);
}

async function readParameter({ tensor }: Parameter): Promise<Float32Array> {
  if (tensor.format === "rows") return tensor.read();
  const plain = unpackWeight(tensor);
  const data = await plain.read();
  plain.dispose();
  return data;
}
