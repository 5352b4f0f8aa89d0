// Loads a checkpoint's weights onto a device, by pieces, straight into the form that the device wants.
import type { Backend } from "../../backends/backend.ts";
import { ConfigError } from "../../core/errors.ts";
import { sizeOf } from "../../core/shape.ts";
import type { FileSource, TensorInfo, TensorReader } from "../../io/index.ts";
import { openTensors } from "../../io/index.ts";
import type { Module } from "../../nn/module.ts";
import { createPackedWeight } from "../../ops/linear/pack.ts";
import type { Parameter } from "../../tensor/parameter.ts";
import type { Format, Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { CheckpointLayout, Piece } from "./layout.ts";
import { checkFinite, matchTensors } from "./layout.ts";
import { readTensorFrom } from "./read.ts";

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

/** A model whose weights a file can hold. */
export type LoadableModel = Module & { activations?: "f32" | "f16" };

/** Throws ConfigError for f16 weights that are to be trained. */
export function checkTrainable({ dtype, trainable }: LoadOptions): void {
  if (dtype === "f16" && trainable)
    throw new ConfigError(
      "loadMamba: f16 weights cannot be trained, which needs float32 weights. Load with dtype f32, or without trainable.",
    );
}

/** Loads all parameters, in place of what the model had. On failure its memory is given back where it had none before. */
export async function loadWeights(
  model: LoadableModel,
  layout: CheckpointLayout,
  source: FileSource,
  options: LoadOptions,
): Promise<void> {
  const reader = await openTensors(source);
  try {
    const parameters = model.namedParameters();
    const infos = matchTensors(layout, reader, source.description);
    const pieces = piecesByParameter(layout);
    const total = model.parameterCount;
    // One buffer for all tensors: those of a tensor each would be garbage sooner than the collector runs.
    const buffer = new Float32Array(Math.min(PIECE_ELEMENTS, total));
    let loaded = 0;
    for (const [name, parameter] of parameters) {
      const from = pieces.get(name)!.map((piece) => ({ ...piece, info: infos.get(piece.tensor)! }));
      parameter.assign(await loadParameter(parameter, { reader, from, buffer }, options));
      loaded += sizeOf(parameter.shape);
      options.onProgress?.(loaded / total);
    }
    if (options.dtype === "f16") model.activations = "f16";
  } finally {
    await reader.close();
  }
}

/** The pieces of each parameter in its own order, and the tensors that they lie in. */
function piecesByParameter({ tensors }: CheckpointLayout): Map<string, (Piece & { tensor: string })[]> {
  const found = new Map<string, (Piece & { tensor: string })[]>();
  for (const [tensor, { pieces }] of tensors)
    for (const piece of pieces) {
      const list = found.get(piece.parameter) ?? [];
      list.push({ ...piece, tensor });
      found.set(piece.parameter, list);
    }
  for (const list of found.values()) list.sort((a, b) => a.start - b.start);
  return found;
}

/** Where a parameter comes from, and memory to read it through. */
interface ParameterSource {
  readonly reader: TensorReader;
  readonly from: readonly (Piece & { readonly info: TensorInfo })[];
  readonly buffer: Float32Array;
}

async function loadParameter(
  parameter: Parameter,
  { reader, from, buffer: shared }: ParameterSource,
  { backend, dtype = "f32", trainable = false }: LoadOptions,
): Promise<Tensor> {
  const { shape } = parameter;
  const isPlain = !parameter.isPackable || trainable;
  const target = isPlain ? plainTarget(backend, parameter) : createPackedWeight(backend, shape, ...PACKED[dtype]);
  const { tensor } = target;
  const columns = isPlain ? 1 : tensor.columns;
  const rowsPerPiece = Math.max(1, Math.floor(shared.length / columns));
  const buffer = columns <= shared.length ? shared : new Float32Array(columns);
  try {
    for (const { info, start, fileStart, count } of from)
      for (let row = 0; row < count / columns; row += rowsPerPiece) {
        const values = buffer.subarray(0, Math.min(rowsPerPiece, count / columns - row) * columns);
        const range = { start: fileStart + row * columns, count: values.length };
        await readTensorFrom(reader, info, values, range);
        checkFinite(values, info);
        target.writeRows(start / columns + row, values);
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
