// Writes checkpoints: the weights of a model, or those of another checkpoint, tensor by tensor.
import { sizeOf } from "../../core/shape.ts";
import type { FileSource, TensorInfo, TensorToWrite } from "../../io/index.ts";
import { makeFolder, openTensors, writeFileAtomic, writeSafetensors } from "../../io/index.ts";
import type { Module } from "../../nn/module.ts";
import { unpackWeight } from "../../ops/linear/pack.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import type { CheckpointLayout, FileTensor, SaveDType } from "./layout.ts";
import { checkWritable, matchTensors, SCALE } from "./layout.ts";
import { quantizeWeightRow } from "../../ops/linear/quantize.ts";
import { readTensorFrom } from "./read.ts";

/** What is written beside the weights, and their element type. */
export interface SaveOptions {
  /** Element type in the file; default F32. */
  dtype?: SaveDType;
  /** Other files of the folder, by name: the tokenizer's. */
  files?: Readonly<Record<string, string>>;
}

/**
 * Writes a folder: config.json, generation_config.json, model.safetensors and the given files. Each file appears whole or
 * not at all.
 * @throws CheckpointError (a weight that the element type cannot hold), DataError (the system refuses to write)
 */
export async function saveWeights(
  model: Module,
  layout: CheckpointLayout,
  folder: string,
  { dtype = "F32", files = {} }: SaveOptions = {},
): Promise<void> {
  const parameters = model.namedParameters();
  const tensors = [...layout.tensors].map(([name, tensor]) => ({
    name,
    shape: tensor.shape,
    isPackable: tensor.isPackable,
    data: () => readTensor(tensor, parameters),
  }));
  await writeFolder(folder, layout, tensors, { dtype, files });
}

/** Options of {@link copyCheckpoint}. */
export interface ConvertOptions {
  /** Element type in the file; default: that of the source where all its tensors have one, else F32. */
  dtype?: SaveDType | undefined;
  /** Other files of the folder, by name: the tokenizer's. */
  files?: Readonly<Record<string, string>> | undefined;
  /** Called after each tensor, with the share of all elements that are read. */
  onProgress?: ((share: number) => void) | undefined;
}

/** What {@link copyCheckpoint} wrote. */
export interface Converted {
  readonly dtype: SaveDType;
  readonly tensors: number;
  readonly parameters: number;
  /** Names of the files that were written. */
  readonly files: readonly string[];
}

/**
 * Copies a checkpoint into a folder, as {@link saveWeights} writes it, tensor by tensor: without a device, and without the
 * model in memory. Nothing is written before all names and shapes are checked.
 * @throws CheckpointError (damaged, or unfit for its configuration or for the element type), DataError (the system
 * refuses to write)
 */
export async function copyCheckpoint(
  source: FileSource,
  layout: CheckpointLayout,
  folder: string,
  { dtype: wanted, files = {}, onProgress }: ConvertOptions = {},
): Promise<Converted> {
  const reader = await openTensors(source);
  try {
    const infos = matchTensors(layout, reader, source.description);
    const dtype = wanted ?? commonDType([...infos.values()]);
    const parameters = [...infos.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    // Quantised tensors are read twice: see toTensors.
    const total = dtype === "I8" ? 2 * parameters : parameters;
    let done = 0;
    const tensors = [...infos].map(([name, info]) => ({
      name,
      file: info.file,
      shape: info.shape,
      isPackable: layout.tensors.get(name)!.isPackable,
      data: async () => {
        const data = new Float32Array(sizeOf(info.shape));
        await readTensorFrom(reader, info, data);
        done += data.length;
        onProgress?.(done / total);
        return data;
      },
    }));
    const written = await writeFolder(folder, layout, tensors, { dtype, files });
    return { dtype, tensors: tensors.length, parameters, files: written };
  } finally {
    await reader.close();
  }
}

function commonDType(infos: readonly TensorInfo[]): SaveDType {
  const [{ dtype }] = infos;
  if (infos.some((info) => info.dtype === "I8")) return "I8";
  return (dtype === "F16" || dtype === "BF16") && infos.every((info) => info.dtype === dtype) ? dtype : "F32";
}

/** A tensor of a folder to write; `file` is where it comes from, for messages. */
interface FolderTensor {
  readonly name: string;
  readonly file?: string;
  readonly shape: readonly number[];
  readonly isPackable: boolean;
  readonly data: () => Promise<Float32Array>;
}

/** The weights first and config.json last, so that a new folder with a config.json is whole. @returns the names of the files */
async function writeFolder(
  folder: string,
  { configFiles }: CheckpointLayout,
  tensors: readonly FolderTensor[],
  { dtype, files }: { dtype: SaveDType; files: Readonly<Record<string, string>> },
): Promise<string[]> {
  const weights = "model.safetensors";
  const path = `${folder}/${weights}`;
  const toWrite = tensors.flatMap(({ data, ...tensor }) => {
    const checked = async (): Promise<Float32Array> => {
      const values = await data();
      checkWritable(values, dtype, { ...tensor, file: tensor.file ?? path });
      return values;
    };
    return toTensors({ ...tensor, data: checked }, dtype);
  });
  const texts = { ...files, ...configFiles(dtype) };
  await makeFolder(folder);
  await writeSafetensors(path, toWrite, { format: "pt" });
  for (const [name, text] of Object.entries(texts)) await writeFileAtomic(`${folder}/${name}`, text);
  return [weights, ...Object.keys(texts)];
}

/** One tensor of a file; of quantised weights two, whole numbers and scales. They are read for each, so as not to be kept. */
function toTensors({ name, shape, isPackable, data }: FolderTensor, dtype: SaveDType): TensorToWrite[] {
  if (dtype !== "I8") return [{ name, dtype, shape, data }];
  if (!isPackable || shape.length !== 2) return [{ name, dtype: "F32", shape, data }];
  const [rows, columns] = shape;
  const quantized = async (): Promise<ReturnType<typeof quantizeWeightRow>[]> => {
    const values = await data();
    return Array.from({ length: rows }, (_, row) =>
      quantizeWeightRow(values.subarray(row * columns, (row + 1) * columns)),
    );
  };
  const scales = async (): Promise<Float32Array> => Float32Array.from(await quantized(), ({ scale }) => scale);
  const numbers = async (): Promise<Int32Array> => {
    const all = new Int32Array(rows * columns);
    for (const [row, { values }] of (await quantized()).entries()) all.set(values.subarray(0, columns), row * columns);
    return all;
  };
  return [
    { name: `${name}${SCALE}`, dtype: "F32", shape: [rows], data: scales },
    { name, dtype, shape, data: numbers },
  ];
}

/** A file's tensor from the parameters that it is made of. */
async function readTensor(
  { shape, pieces }: FileTensor,
  parameters: ReadonlyMap<string, Parameter>,
): Promise<Float32Array> {
  const [first] = pieces;
  if (pieces.length === 1 && first.start === 0 && first.count === sizeOf(parameters.get(first.parameter)!.shape))
    return readParameter(parameters.get(first.parameter)!);
  const all = new Float32Array(sizeOf(shape));
  const read = new Map<string, Float32Array>();
  for (const { parameter, start, fileStart, count } of pieces) {
    const values = read.get(parameter) ?? (await readParameter(parameters.get(parameter)!));
    read.set(parameter, values);
    all.set(values.subarray(start, start + count), fileStart);
  }
  return all;
}

async function readParameter({ tensor }: Parameter): Promise<Float32Array> {
  if (tensor.format === "rows") return tensor.read();
  const plain = unpackWeight(tensor);
  const data = await plain.read();
  plain.dispose();
  return data;
}
