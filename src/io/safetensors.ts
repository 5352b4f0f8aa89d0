// Reader of the safetensors format: 8 bytes of header length, a JSON header, then the tensors without gaps.
// Source: https://github.com/huggingface/safetensors, safetensors/src/tensor.rs (Metadata::validate).
import { CheckpointError, DTypeError } from "../core/errors.ts";
import { checkIsInteger, convertToFloat32, convertToInt32, streamElements } from "./elements.ts";
import { decodeUtf8, isJsonObject, parseJson } from "./file-source.ts";
import type { RandomAccessFile } from "./file-source.ts";
import { BYTES_PER_FILE_ELEMENT, elementsOf, findTensor, resolveRange } from "./tensor-info.ts";
import type { FileDType, TensorInfo, TensorReader } from "./tensor-info.ts";
import { describe, quote } from "./text.ts";

const LARGEST_HEADER_BYTES = 100_000_000;
const MOST_TENSORS = 1_000_000;
const MOST_AXES = 32;
const METADATA_KEY = "__metadata__";

/** A tensor and the bytes `[begin, end)` of the file that hold it. */
interface PlacedTensor extends TensorInfo {
  readonly begin: number;
  readonly end: number;
}

/**
 * Opens a safetensors file; everything its header says is checked against the file before anything is read.
 * Throws CheckpointError for a damaged or hostile file, DTypeError for an element type this library does not read.
 */
export async function openSafetensors(file: RandomAccessFile): Promise<TensorReader> {
  const { header, dataStart } = await readHeader(file);
  const metadata = readMetadata(header, file.name);
  const placed = placeTensors(header, file, dataStart);
  checkNoGaps(placed, file, dataStart);
  const tensors = new Map(placed.map((tensor) => [tensor.name, tensor]));
  return {
    tensors,
    metadata,
    async readFloat32(name, target, range = {}) {
      const info = findTensor(tensors, name, file.name);
      const { start, count } = resolveRange(info, target.length, range);
      const offset = info.begin + start * BYTES_PER_FILE_ELEMENT[info.dtype];
      await streamElements(file, info.dtype, offset, count, (elements, first) => {
        convertToFloat32(info.dtype, elements, target.subarray(first, first + elements.length));
      });
    },
    async readInt32(name, target) {
      const info = findTensor(tensors, name, file.name);
      checkIsInteger(info);
      const { count } = resolveRange(info, target.length, {});
      await streamElements(file, info.dtype, info.begin, count, (elements, first) => {
        convertToInt32(info, elements, target.subarray(first, first + elements.length));
      });
    },
    close: () => file.close(),
  };
}

async function readHeader(file: RandomAccessFile): Promise<{ header: Record<string, unknown>; dataStart: number }> {
  const lengthBytes = new Uint8Array(8);
  if (file.size < 8)
    throw new CheckpointError(
      `${file.name}: a safetensors file starts with 8 bytes of header length, this file has ${file.size} bytes. Download it again.`,
    );
  await file.read(0, lengthBytes);
  const length = new DataView(lengthBytes.buffer).getBigUint64(0, true);
  if (length < 2n || length > BigInt(LARGEST_HEADER_BYTES) || Number(length) > file.size - 8) {
    throw new CheckpointError(
      `${file.name}: the header of a safetensors file has 2 to ${LARGEST_HEADER_BYTES} bytes and fits the file of ${file.size} bytes, ` +
        `this one claims ${length}. It is damaged or no safetensors file: download it again.`,
    );
  }
  const headerBytes = new Uint8Array(Number(length));
  await file.read(8, headerBytes);
  const header = parseJson(decodeUtf8(headerBytes, file.name), file.name);
  if (!isJsonObject(header))
    throw new CheckpointError(`${file.name}: the header must be a JSON object. It is damaged: download it again.`);
  return { header, dataStart: 8 + headerBytes.length };
}

function readMetadata(header: Record<string, unknown>, file: string): Record<string, string> {
  if (!Object.hasOwn(header, METADATA_KEY)) return {};
  const value = header[METADATA_KEY];
  const isStringMap = isJsonObject(value) && Object.values(value).every((text) => typeof text === "string");
  if (!isStringMap)
    throw new CheckpointError(
      `${file}: ${METADATA_KEY} must map names to texts. The header is damaged: download it again.`,
    );
  return Object.fromEntries(Object.entries(value as Record<string, string>));
}

/** All tensors in the order of their bytes. */
function placeTensors(header: Record<string, unknown>, file: RandomAccessFile, dataStart: number): PlacedTensor[] {
  const entries = Object.entries(header).filter(([name]) => name !== METADATA_KEY);
  if (entries.length > MOST_TENSORS)
    throw new CheckpointError(
      `${file.name}: at most ${MOST_TENSORS} tensors are read, this file has ${entries.length}.`,
    );
  const placed = entries.map(([name, entry]) => placeTensor(name, entry, file, dataStart));
  return placed.sort((a, b) => a.begin - b.begin || a.end - b.end);
}

function placeTensor(name: string, entry: unknown, file: RandomAccessFile, dataStart: number): PlacedTensor {
  const where = `${file.name}: tensor ${quote(name)}`;
  const fields: Record<string, unknown> = isJsonObject(entry) ? entry : {};
  const dtype = checkDType(fields["dtype"], where);
  const shape = checkShape(fields["shape"], where);
  const offsets = fields["data_offsets"];
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw new CheckpointError(
      `${where}: data_offsets must be two integers [begin, end]. The header is damaged: download the file again.`,
    );
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end || end > file.size - dataStart) {
    throw new CheckpointError(
      `${where}: its bytes ${begin} to ${end} are not within the ${file.size - dataStart} bytes of data. The file is truncated or damaged: download it again.`,
    );
  }
  const expected = elementsOf(shape) * BYTES_PER_FILE_ELEMENT[dtype];
  if (end - begin !== expected) {
    throw new CheckpointError(
      `${where}: ${dtype} [${shape.join(", ")}] takes ${expected} bytes, the header gives it ${end - begin}. It is damaged: download the file again.`,
    );
  }
  return { name, dtype, shape, file: file.name, begin: dataStart + begin, end: dataStart + end };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function checkDType(value: unknown, where: string): FileDType {
  if (typeof value === "string" && Object.hasOwn(BYTES_PER_FILE_ELEMENT, value)) return value as FileDType;
  const known = Object.keys(BYTES_PER_FILE_ELEMENT).join(", ");
  throw new DTypeError(
    `${where}: dtype must be one of ${known}, got ${describe(value)}. Convert the checkpoint to float32, float16 or bfloat16.`,
  );
}

/** Non-negative integers whose product, and bytes, stay exact. */
function checkShape(value: unknown, where: string): number[] {
  if (!Array.isArray(value) || value.length > MOST_AXES || !value.every(isCount)) {
    throw new CheckpointError(
      `${where}: the shape must be a list of at most ${MOST_AXES} non-negative integers. The header is damaged: download the file again.`,
    );
  }
  const shape = value;
  let product = 1;
  for (const axis of shape) {
    product *= axis;
    if (product * 8 > Number.MAX_SAFE_INTEGER)
      throw new CheckpointError(
        `${where}: the shape [${shape.join(", ")}] has too many elements. The header is damaged: download the file again.`,
      );
  }
  return shape;
}

/** The tensors must cover the data exactly: an overlap or a hole is how a file hides something, or a duplicate key. */
function checkNoGaps(placed: readonly PlacedTensor[], file: RandomAccessFile, dataStart: number): void {
  let position = dataStart;
  for (const tensor of placed) {
    if (tensor.begin !== position) {
      const kind = tensor.begin < position ? "overlaps the tensor before it" : "leaves a hole before it";
      throw new CheckpointError(
        `${file.name}: tensor ${quote(tensor.name)} ${kind} (byte ${tensor.begin} instead of ${position}). The header is damaged: download the file again.`,
      );
    }
    position = tensor.end;
  }
  if (position !== file.size) {
    throw new CheckpointError(
      `${file.name}: the tensors end at byte ${position}, the file at ${file.size}. The file is damaged: download it again.`,
    );
  }
}
