// Checkpoints of Mamba-1: loads the Hugging Face and the state-spaces layouts onto a device, writes the Hugging Face layout.
// Source: state-spaces/mamba. What a file calls its tensors: checkpoint-layout.ts.
import type { Backend } from "../../backends/backend.ts";
import { ConfigError } from "../../core/errors.ts";
import { sizeOf } from "../../core/shape.ts";
import type { FileSource, TensorInfo, TensorReader, TensorToWrite } from "../../io/index.ts";
import { makeFolder, openTensors, writeFileAtomic, writeSafetensors } from "../../io/index.ts";
import { createPackedWeight, unpackWeight } from "../../ops/linear/pack.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import type { Format, Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { FloatDType } from "./checkpoint-layout.ts";
import {
  checkFinite,
  checkWritable,
  configFiles,
  fileShape,
  loadMambaConfig,
  matchTensors,
} from "./checkpoint-layout.ts";
import type { MambaConfig } from "./config.ts";
import { MambaModel } from "./model.ts";

export { loadMambaConfig } from "./checkpoint-layout.ts";
export type { FloatDType } from "./checkpoint-layout.ts";

/** How weights lie in memory: f32 (packed for products), f16 (webgpu only), or int8 (quantised by rows). */
export type WeightDType = "f32" | "f16" | "int8";

/** Where to and how a checkpoint is loaded. */
export interface LoadOptions {
  backend: Backend;
  /** Default f32. With f16 the activations inside the blocks are float16 too. */
  dtype?: WeightDType;
  /** Keep the weights as training needs them, plain float32. Default false. */
  trainable?: boolean;
  /** Called after each tensor, with the share of all elements that are loaded. */
  onProgress?: (share: number) => void;
}

/** How weights that are only used in products are packed. */
export const PACKED: Readonly<Record<WeightDType, readonly [Format, ("f32" | "f16")?]>> = {
  f32: ["panels"],
  f16: ["rows", "f16"],
  int8: ["int8"],
};

/** Elements read at a time: the float32 of a piece, on the host and on the device, is all that lies beside the weights. */
const PIECE_ELEMENTS = 1 << 18;

/**
 * Loads a checkpoint's configuration and weights onto a device.
 * @throws ConfigError, CheckpointError (missing, extra, misshapen tensors, NaN), BackendError (not enough memory),
 * DTypeError or BackendError (f16 on a device that has none)
 */
export async function loadMamba(source: FileSource, options: LoadOptions): Promise<MambaModel> {
  const isHalf = options.dtype === "f16";
  if (isHalf && options.trainable)
    throw new ConfigError(
      "loadMamba: f16 weights cannot be trained, which needs float32 weights. Load with dtype f32, or without trainable.",
    );
  const model = new MambaModel(await loadMambaConfig(source));
  try {
    await loadInto(model, source, options);
    if (isHalf) model.activations = "f16";
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Loads the weights of a checkpoint into a model that exists, in place of its own (resuming a training run). */
export async function loadMambaWeights(model: MambaModel, source: FileSource): Promise<void> {
  await loadInto(model, source, { backend: model.backend, trainable: true });
}

async function loadInto(model: MambaModel, source: FileSource, options: LoadOptions): Promise<void> {
  const reader = await openTensors(source);
  try {
    const parameters = model.namedParameters();
    const infos = matchTensors(parameters, reader, source.description);
    const total = model.parameterCount;
    // One buffer for all tensors: those of a tensor each would be garbage sooner than the collector runs.
    const piece = new Float32Array(Math.min(PIECE_ELEMENTS, total));
    let loaded = 0;
    for (const [name, parameter] of parameters) {
      parameter.assign(await loadParameter(parameter, { reader, info: infos.get(name)!, piece }, options));
      loaded += sizeOf(parameter.shape);
      options.onProgress?.(loaded / total);
    }
  } finally {
    await reader.close();
  }
}

/** Where a parameter comes from, and memory to read it through. */
interface PieceReader {
  readonly reader: TensorReader;
  readonly info: TensorInfo;
  readonly piece: Float32Array;
}

async function loadParameter(
  parameter: Parameter,
  { reader, info, piece }: PieceReader,
  { backend, dtype = "f32", trainable = false }: LoadOptions,
): Promise<Tensor> {
  const { shape } = parameter;
  const isPlain = !parameter.isPackable || trainable;
  const target = isPlain ? plainTarget(backend, parameter) : createPackedWeight(backend, shape, ...PACKED[dtype]);
  const { tensor } = target;
  const columns = isPlain ? 1 : tensor.columns;
  const rows = sizeOf(shape) / columns;
  const rowsPerPiece = Math.max(1, Math.floor(piece.length / columns));
  const buffer = columns <= piece.length ? piece : new Float32Array(columns);
  try {
    for (let row = 0; row < rows; row += rowsPerPiece) {
      const values = buffer.subarray(0, Math.min(rowsPerPiece, rows - row) * columns);
      await reader.readFloat32(info.name, values, { start: row * columns, count: values.length });
      checkFinite(values, info);
      target.writeRows(row, values);
    }
    return tensor;
  } catch (error) {
    tensor.dispose();
    throw error;
  }
}

/** A plain tensor to be filled from any element on, as if each were a row. */
function plainTarget(backend: Backend, { shape }: Parameter): ReturnType<typeof createPackedWeight> {
  const tensor = emptyTensor(backend, shape);
  return { tensor, writeRows: (start, values) => backend.write(tensor.storage, values, start) };
}

/** What is written beside the weights, and their element type. */
export interface SaveOptions {
  /** Element type in the file; default F32. */
  dtype?: FloatDType;
  /** Other files of the folder, by name: the tokenizer's. */
  files?: Readonly<Record<string, string>>;
}

/**
 * Writes a folder that Hugging Face transformers loads: config.json, generation_config.json, model.safetensors and the
 * given files. Each file appears whole or not at all.
 * @throws CheckpointError (a weight that the element type cannot hold), DataError (the system refuses to write)
 */
export async function saveMamba(
  model: MambaModel,
  folder: string,
  { dtype = "F32", files = {} }: SaveOptions = {},
): Promise<void> {
  const tensors = [...model.namedParameters()].map(([name, parameter]) => ({
    name,
    shape: fileShape(name, parameter.shape),
    data: () => readParameter(parameter),
  }));
  await writeFolder(folder, model.config, tensors, { dtype, files });
}

/** Options of {@link convertMamba}. */
export interface ConvertOptions {
  /** Element type in the file; default: that of the source where all its tensors have one, else F32. */
  dtype?: FloatDType | undefined;
  /** Other files of the folder, by name: the tokenizer's. */
  files?: Readonly<Record<string, string>> | undefined;
  /** Called after each tensor, with the share of all elements that are read. */
  onProgress?: ((share: number) => void) | undefined;
}

/** What {@link convertMamba} wrote. */
export interface Converted {
  readonly dtype: FloatDType;
  readonly tensors: number;
  readonly parameters: number;
  /** Names of the files that were written. */
  readonly files: readonly string[];
}

/**
 * Copies a checkpoint into a folder that Hugging Face transformers loads, as {@link saveMamba} writes it, tensor by tensor:
 * without a device, and without the model in memory. Nothing is written before all names and shapes are checked.
 * @throws ConfigError, CheckpointError (damaged, or unfit for its configuration or for the element type), DataError (the
 * system refuses to write)
 */
export async function convertMamba(
  source: FileSource,
  folder: string,
  { dtype: wanted, files = {}, onProgress }: ConvertOptions = {},
): Promise<Converted> {
  const config = await loadMambaConfig(source);
  const reader = await openTensors(source);
  try {
    const model = new MambaModel(config);
    const infos = matchTensors(model.namedParameters(), reader, source.description);
    const dtype = wanted ?? commonDType([...infos.values()]);
    const parameters = model.parameterCount;
    let done = 0;
    const tensors = [...infos].map(([name, info]) => ({
      name,
      file: info.file,
      shape: info.shape,
      data: async () => {
        const data = new Float32Array(sizeOf(info.shape));
        await reader.readFloat32(info.name, data);
        done += data.length;
        onProgress?.(done / parameters);
        return data;
      },
    }));
    const written = await writeFolder(folder, config, tensors, { dtype, files });
    return { dtype, tensors: tensors.length, parameters, files: written };
  } finally {
    await reader.close();
  }
}

function commonDType(infos: readonly TensorInfo[]): FloatDType {
  const [{ dtype }] = infos;
  return (dtype === "F16" || dtype === "BF16") && infos.every((info) => info.dtype === dtype) ? dtype : "F32";
}

/** A tensor of a folder to write; `file` is where it comes from, for messages. */
interface FolderTensor {
  readonly name: string;
  readonly file?: string;
  readonly shape: readonly number[];
  readonly data: () => Promise<Float32Array>;
}

/** The weights first and config.json last, so that a new folder with a config.json is whole. @returns the names of the files */
async function writeFolder(
  folder: string,
  config: MambaConfig,
  tensors: readonly FolderTensor[],
  { dtype, files }: { dtype: FloatDType; files: Readonly<Record<string, string>> },
): Promise<string[]> {
  const weights = "model.safetensors";
  const path = `${folder}/${weights}`;
  const toWrite: TensorToWrite[] = tensors.map(({ name, file = path, shape, data }) => ({
    name,
    dtype,
    shape,
    data: async () => {
      const values = await data();
      checkWritable(values, dtype, { file, name });
      return values;
    },
  }));
  const texts = { ...files, ...configFiles(config, dtype) };
  await makeFolder(folder);
  await writeSafetensors(path, toWrite, { format: "pt" });
  for (const [name, text] of Object.entries(texts)) await writeFileAtomic(`${folder}/${name}`, text);
  return [weights, ...Object.keys(texts)];
}

async function readParameter({ tensor }: Parameter): Promise<Float32Array> {
  if (tensor.format === "rows") return tensor.read();
  const plain = unpackWeight(tensor);
  const data = await plain.read();
  plain.dispose();
  return data;
}
