// What a checkpoint file says about its tensors, and the interface that reads them, whatever the format.
import { CheckpointError, ShapeError } from "../core/errors.ts";
import { quote, quoteSome } from "./text.ts";

/** Element types in files, by the names of safetensors. */
export type FileDType = "F64" | "F32" | "F16" | "BF16" | "I64" | "I32" | "I16" | "I8" | "U8" | "BOOL";

/** Bytes of one element in a file. */
export const BYTES_PER_FILE_ELEMENT: Readonly<Record<FileDType, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** One tensor of a checkpoint. */
export interface TensorInfo {
  /** Its key in the checkpoint, for example `backbone.layers.0.mixer.A_log`. */
  readonly name: string;
  readonly dtype: FileDType;
  /** Row-major, `[]` for a scalar. */
  readonly shape: readonly number[];
  /** The file that holds it, for messages. */
  readonly file: string;
}

/** A run of elements of a tensor, row-major. */
export interface ElementRange {
  /** First element. Default 0. */
  readonly start?: number;
  /** Number of elements. Default: to the end of the tensor. */
  readonly count?: number;
}

/** The tensors of a checkpoint, read one by one. */
export interface TensorReader {
  /** By name, in the order of the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Free text of the file, for example `{ format: "pt" }`. */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads elements `[start, start + count)` of a tensor as float32 into `target[0 .. count)`, which may view shared memory.
   * Streams in pieces of at most 1 MiB. Integers and float64 are rounded to float32; booleans become 0 and 1.
   * Throws CheckpointError for an unknown name or a damaged file, ShapeError when the range or the target does not fit.
   */
  readFloat32(name: string, target: Float32Array, range?: ElementRange): Promise<void>;
  /**
   * Reads a whole tensor of integers or booleans into `target`.
   * Throws DTypeError for a tensor of floats, CheckpointError for a value outside int32 or a damaged file, ShapeError when the target is too short.
   */
  readInt32(name: string, target: Int32Array): Promise<void>;
  /** Closes the files. */
  close(): Promise<void>;
}

/** Number of elements of a shape that was checked before. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, axis) => product * axis, 1);
}

/** The entry of a name. Throws CheckpointError that lists what there is. */
export function findTensor<Info>(tensors: ReadonlyMap<string, Info>, name: string, file: string): Info {
  const found = tensors.get(name);
  if (found === undefined)
    throw new CheckpointError(
      `${file}: there is no tensor ${quote(name)}; there are ${quoteSome([...tensors.keys()])}.`,
    );
  return found;
}

/** Resolves a range against a tensor and a target. Throws ShapeError. */
export function resolveRange(
  info: TensorInfo,
  targetLength: number,
  range: ElementRange,
): { start: number; count: number } {
  const size = elementsOf(info.shape);
  const start = range.start ?? 0;
  const count = range.count ?? size - start;
  const isInside =
    Number.isSafeInteger(start) && Number.isSafeInteger(count) && start >= 0 && count >= 0 && start + count <= size;
  if (!isInside) {
    throw new ShapeError(
      `reading ${quote(info.name)}: elements ${start} to ${start + count} are asked for, the tensor [${info.shape.join(", ")}] has ${size}.`,
    );
  }
  if (targetLength < count) {
    throw new ShapeError(
      `reading ${quote(info.name)}: the target must hold ${count} elements, it has ${targetLength}. Is its shape [${info.shape.join(", ")}]?`,
    );
  }
  return { start, count };
}
