// Writer of the safetensors format, streamed, so that a model is never in memory twice.
// Source: https://github.com/huggingface/safetensors, safetensors/src/tensor.rs (prepare).
import { DTypeError, ShapeError, UsageError } from "../core/errors.ts";
import { writeFileAtomic } from "./atomic.ts";
import { PIECE_BYTES } from "./elements.ts";
import { float32ToBfloat16, float32ToFloat16 } from "../core/half.ts";
import { BYTES_PER_FILE_ELEMENT, elementsOf } from "./tensor-info.ts";
import { quote } from "./text.ts";

/** Element types that are written. */
export type WriteDType = "F32" | "F16" | "BF16" | "I8" | "I32" | "I64";

/** A tensor to write. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: WriteDType;
  /** Row-major, `[]` for a scalar. */
  readonly shape: readonly number[];
  /** Gives the elements: float32 for F32, F16 and BF16 (rounded to nearest even), int32 for I8, I32 and I64. Called once, in the order of the file. */
  readonly data: () => Float32Array | Int32Array | Promise<Float32Array | Int32Array>;
}

/** transformers refuses a file that does not say this. */
const DEFAULT_METADATA: Readonly<Record<string, string>> = { format: "pt" };
const METADATA_KEY = "__metadata__";
const HEADER_ALIGNMENT = 8;

type Write = (bytes: Uint8Array) => Promise<void>;

/**
 * Writes a safetensors file, atomically and piece by piece. Tensors lie in the order given, but those of wider elements first, so that
 * every tensor is aligned. Node only. Throws UsageError for a name given twice, DTypeError or ShapeError when data do not fit what was
 * announced, DataError when the system refuses to write; the old file then stays.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = DEFAULT_METADATA,
): Promise<void> {
  await writeFileAtomic(path, (write) => streamSafetensors(tensors, metadata, write));
}

/** The bytes of a safetensors file; for small ones and for browsers. Throws like writeSafetensors. */
export async function encodeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = DEFAULT_METADATA,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  await streamSafetensors(tensors, metadata, async (bytes) => {
    pieces.push(bytes);
    size += bytes.length;
  });
  const file = new Uint8Array(size);
  let position = 0;
  for (const piece of pieces) {
    file.set(piece, position);
    position += piece.length;
  }
  return file;
}

async function streamSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
  write: Write,
): Promise<void> {
  const ordered = [...tensors].sort((a, b) => BYTES_PER_FILE_ELEMENT[b.dtype] - BYTES_PER_FILE_ELEMENT[a.dtype]);
  await write(makeHeader(ordered, metadata));
  for (const tensor of ordered) await writeTensor(tensor, write);
}

/** Eight bytes of length, then the JSON header, padded with spaces to a multiple of eight. */
function makeHeader(tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries = new Map<string, unknown>([[METADATA_KEY, metadata]]);
  let position = 0;
  for (const { name, dtype, shape } of tensors) {
    if (entries.has(name))
      throw new UsageError(
        `writing safetensors: the name ${quote(name)} is taken twice, or reserved. Give each tensor its own name.`,
      );
    const end = position + elementsOf(shape) * BYTES_PER_FILE_ELEMENT[dtype];
    if (!shape.every((axis) => Number.isSafeInteger(axis) && axis >= 0) || !Number.isSafeInteger(end)) {
      throw new ShapeError(
        `writing safetensors: tensor ${quote(name)} must have a shape of non-negative integers, got [${shape.join(", ")}].`,
      );
    }
    entries.set(name, { dtype, shape, data_offsets: [position, end] });
    position = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const padded = Math.ceil(json.length / HEADER_ALIGNMENT) * HEADER_ALIGNMENT;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return header;
}

async function writeTensor(tensor: TensorToWrite, write: Write): Promise<void> {
  const data = await tensor.data();
  const isInteger = tensor.dtype.startsWith("I");
  if (data instanceof Int32Array !== isInteger) {
    throw new DTypeError(
      `writing safetensors: tensor ${quote(tensor.name)} of ${tensor.dtype} takes ${isInteger ? "an Int32Array" : "a Float32Array"}, got the other.`,
    );
  }
  if (data.length !== elementsOf(tensor.shape)) {
    throw new ShapeError(
      `writing safetensors: tensor ${quote(tensor.name)} [${tensor.shape.join(", ")}] has ${elementsOf(tensor.shape)} elements, its data ${data.length}.`,
    );
  }
  const perPiece = PIECE_BYTES / BYTES_PER_FILE_ELEMENT[tensor.dtype];
  for (let first = 0; first < data.length; first += perPiece) {
    await write(encodeElements(tensor.dtype, data.subarray(first, first + perPiece)));
  }
}

/** A copy of the elements as bytes of the file (a copy also because the data may be shared memory, which streams refuse). */
function encodeElements(dtype: WriteDType, data: Float32Array | Int32Array): Uint8Array {
  if (data instanceof Int32Array) {
    if (dtype === "I8") return new Uint8Array(Int8Array.from(data).buffer);
    const isWide = dtype === "I64";
    return new Uint8Array((isWide ? BigInt64Array.from(data, BigInt) : Int32Array.from(data)).buffer);
  }
  if (dtype === "F32") return new Uint8Array(new Float32Array(data).buffer);
  const halves = new Uint16Array(data.length);
  if (dtype === "F16") float32ToFloat16(data, halves);
  else float32ToBfloat16(data, halves);
  return new Uint8Array(halves.buffer);
}
