// Elements of a file, streamed in pieces and converted to float32 or int32. Files and hosts are little-endian.
import { CheckpointError, DTypeError } from "../core/errors.ts";
import type { RandomAccessFile } from "./file-source.ts";
import { bfloat16ToFloat32, float16ToFloat32 } from "../core/half.ts";
import { BYTES_PER_FILE_ELEMENT } from "./tensor-info.ts";
import type { FileDType, TensorInfo } from "./tensor-info.ts";
import { quote } from "./text.ts";

/** Largest piece that is read at once. */
export const PIECE_BYTES: number = 2 ** 20;

/** Takes the elements of one piece: typed as in the file, and the index of the first one. */
type TakePiece = (elements: FileElements, first: number) => void;

/** Elements as they are in a file; 16-bit floats are their bits. */
export type FileElements =
  | Float64Array
  | Float32Array
  | Uint16Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array;

/** How the bytes of each dtype are viewed. */
const VIEWS: Readonly<Record<FileDType, new (buffer: ArrayBuffer, offset: number, count: number) => FileElements>> = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/**
 * The buffer of the last stream, for the next: a new one a call is garbage that grows to 32 MiB before V8 collects it
 * (measured while loading 130m).
 */
let spare: ArrayBuffer | undefined;

/** Reads `count` elements from byte `offset`, at most 1 MiB at a time. */
export async function streamElements(
  file: RandomAccessFile,
  dtype: FileDType,
  offset: number,
  count: number,
  take: TakePiece,
): Promise<void> {
  const elementBytes = BYTES_PER_FILE_ELEMENT[dtype];
  const perPiece = Math.min(count, PIECE_BYTES / elementBytes);
  // Taken while in use, so that streams at the same time have a buffer each.
  const buffer = spare ?? new ArrayBuffer(PIECE_BYTES);
  spare = undefined;
  for (let first = 0; first < count; first += perPiece) {
    const inPiece = Math.min(perPiece, count - first);
    await file.read(offset + first * elementBytes, new Uint8Array(buffer, 0, inPiece * elementBytes));
    take(new VIEWS[dtype](buffer, 0, inPiece), first);
  }
  spare = buffer;
}

/** target[i] = elements[i] as float32; `target` has the length of `elements`. */
export function convertToFloat32(dtype: FileDType, elements: FileElements, target: Float32Array): void {
  if (elements instanceof BigInt64Array) {
    for (let i = 0; i < elements.length; i++) target[i] = Number(elements[i]);
  } else if (dtype === "F16") {
    float16ToFloat32(elements as Uint16Array, target);
  } else if (dtype === "BF16") {
    bfloat16ToFloat32(elements as Uint16Array, target);
  } else {
    target.set(elements);
  }
}

/** Throws DTypeError when a tensor is not of integers or booleans. */
export function checkIsInteger(info: TensorInfo): void {
  if (!["F64", "F32", "F16", "BF16"].includes(info.dtype)) return;
  throw new DTypeError(
    `${info.file}: tensor ${quote(info.name)} must hold integers, it holds ${info.dtype}. Read it with readFloat32.`,
  );
}

/** target[i] = elements[i] as int32; throws CheckpointError for a value that int32 cannot hold. */
export function convertToInt32(info: TensorInfo, elements: FileElements, target: Int32Array): void {
  if (!(elements instanceof BigInt64Array)) {
    target.set(elements);
    return;
  }
  for (let i = 0; i < elements.length; i++) {
    const value = elements[i];
    if (BigInt.asIntN(32, value) !== value) {
      throw new CheckpointError(
        `${info.file}: tensor ${quote(info.name)} holds ${value}, outside -2^31 to 2^31-1. Is the file damaged?`,
      );
    }
    target[i] = Number(value);
  }
}
