// Reader of the weights that torch.save writes: a zip archive with a pickle of tensors and one entry a storage.
// Source: PyTorch, torch/serialization.py (_save, _load), formats of 1.6 and later.
import { CheckpointError } from "../core/errors.ts";
import { checkIsInteger, convertToFloat32, convertToInt32, streamElements } from "./elements.ts";
import type { FileElements } from "./elements.ts";
import type { RandomAccessFile } from "./file-source.ts";
import { unpickle } from "./pickle.ts";
import { isContiguous, readStrided } from "./strided.ts";
import { BYTES_PER_FILE_ELEMENT, findTensor, resolveRange } from "./tensor-info.ts";
import type { TensorInfo, TensorReader } from "./tensor-info.ts";
import { quote, quoteSome } from "./text.ts";
import { TorchTensor, torchHost } from "./torch-globals.ts";
import type { TorchStorage } from "./torch-globals.ts";
import { findEntryData, listZip } from "./torch-zip.ts";
import type { ZipEntry } from "./torch-zip.ts";

const LARGEST_PICKLE_BYTES = 64 * 2 ** 20;
const PICKLE_NAME = "data.pkl";

/** A tensor and the archive entry of its storage. */
interface StoredTensor extends TensorInfo {
  readonly view: TorchTensor["view"];
  readonly entry: ZipEntry;
}

/**
 * Opens a file of torch.save that holds a state dict, {name: tensor}. Nothing in it is executed; views and shared storages (tied weights)
 * are read as they are; values that are no tensors are left out. Throws CheckpointError for a damaged or hostile file, for the format
 * before PyTorch 1.6, and for anything that asks for more than tensors.
 */
export async function openTorchPickle(file: RandomAccessFile): Promise<TensorReader> {
  await refuseOtherFormats(file);
  const entries = await listZip(file);
  const root = findRoot(entries, file.name);
  await refuseBigEndian(file, entries.get(`${root}byteorder`));
  const pickle = await readEntry(file, entries.get(root + PICKLE_NAME) as ZipEntry);
  const tensors = collectTensors(unpickle(pickle, torchHost(file.name), file.name), entries, root, file.name);
  return {
    tensors,
    metadata: {},
    async readFloat32(name, target, range = {}) {
      const tensor = findTensor(tensors, name, file.name);
      const { start, count } = resolveRange(tensor, target.length, range);
      await readInto(file, tensor, start, target.subarray(0, count), newFloat32, (elements, part) =>
        convertToFloat32(tensor.dtype, elements, part),
      );
    },
    async readInt32(name, target) {
      const tensor = findTensor(tensors, name, file.name);
      checkIsInteger(tensor);
      const { count } = resolveRange(tensor, target.length, {});
      await readInto(file, tensor, 0, target.subarray(0, count), newInt32, (elements, part) =>
        convertToInt32(tensor, elements, part),
      );
    },
    close: () => file.close(),
  };
}

function newFloat32(length: number): Float32Array {
  return new Float32Array(length);
}

function newInt32(length: number): Int32Array {
  return new Int32Array(length);
}

/** Fills `target` with the elements from `start` on. */
async function readInto<Values extends Float32Array | Int32Array>(
  file: RandomAccessFile,
  tensor: StoredTensor,
  start: number,
  target: Values,
  allocate: (length: number) => Values,
  convert: (elements: FileElements, part: Values) => void,
): Promise<void> {
  const count = target.length;
  if (count === 0) return;
  const { dtype, view } = tensor;
  const base = await findEntryData(file, tensor.entry);
  if (isContiguous(view)) {
    const offset = base + (view.offset + start) * BYTES_PER_FILE_ELEMENT[dtype];
    await streamElements(file, dtype, offset, count, (elements, first) => {
      convert(elements, target.subarray(first, first + elements.length) as Values);
    });
    return;
  }
  await readStrided(file, { dtype, base, view, start, count }, target, (elements) => {
    const piece = allocate(elements.length);
    convert(elements, piece);
    return piece;
  });
}

/** A zip archive starts with "PK"; a bare pickle or a tar is torch.save's format before 1.6. */
async function refuseOtherFormats(file: RandomAccessFile): Promise<void> {
  const start = new Uint8Array(Math.min(4, file.size));
  await file.read(0, start);
  if (start[0] === 0x50 && start[1] === 0x4b) return;
  const isPickle = start[0] === 0x80;
  throw new CheckpointError(
    isPickle
      ? `${file.name}: this is the format of torch.save before PyTorch 1.6 (or a plain pickle), which is not read. Load it in Python and save it again with torch.save, or as safetensors.`
      : `${file.name}: a file of torch.save is a zip archive, this one is not. It is truncated or damaged: download it again.`,
  );
}

/** The folder of the archive, with its slash: `archive/`, `pytorch_model/`, or nothing. */
function findRoot(entries: ReadonlyMap<string, ZipEntry>, file: string): string {
  const pickles = [...entries.keys()].filter((name) => name === PICKLE_NAME || name.endsWith(`/${PICKLE_NAME}`));
  if (pickles.length !== 1) {
    throw new CheckpointError(
      `${file}: an archive of torch.save has one ${PICKLE_NAME}, this one has ${pickles.length}. There are ${quoteSome([...entries.keys()])}.`,
    );
  }
  return pickles[0].slice(0, -PICKLE_NAME.length);
}

async function readEntry(file: RandomAccessFile, entry: ZipEntry): Promise<Uint8Array> {
  if (entry.size > LARGEST_PICKLE_BYTES) {
    throw new CheckpointError(
      `${file.name}: entry ${quote(entry.name)} may have ${LARGEST_PICKLE_BYTES} bytes, it has ${entry.size}. Convert the checkpoint to safetensors.`,
    );
  }
  const bytes = new Uint8Array(entry.size);
  await file.read(await findEntryData(file, entry), bytes);
  return bytes;
}

async function refuseBigEndian(file: RandomAccessFile, entry: ZipEntry | undefined): Promise<void> {
  if (entry === undefined) return;
  const order = new TextDecoder().decode(await readEntry(file, entry)).trim();
  if (order !== "little")
    throw new CheckpointError(
      `${file.name}: byteorder must be "little", it is ${quote(order)}. Save the checkpoint again on a little-endian machine.`,
    );
}

/** The tensors of a state dict, each with the entry of its storage. */
function collectTensors(
  root: unknown,
  entries: ReadonlyMap<string, ZipEntry>,
  prefix: string,
  file: string,
): Map<string, StoredTensor> {
  if (!(root instanceof Map))
    throw new CheckpointError(
      `${file}: the pickle must hold a dict {name: tensor}. Save model.state_dict() with torch.save.`,
    );
  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of root) {
    if (typeof name !== "string" || !(value instanceof TorchTensor)) continue;
    const { storage, view } = value;
    const entry = findStorage(storage, entries, prefix, file);
    tensors.set(name, { name, dtype: storage.dtype, shape: view.shape, file, view, entry });
  }
  if (tensors.size === 0 && root.size > 0) {
    throw new CheckpointError(
      `${file}: the dict holds no tensors, only ${quoteSome([...root.keys()].map(String))}. Save model.state_dict() alone with torch.save.`,
    );
  }
  return tensors;
}

function findStorage(
  storage: TorchStorage,
  entries: ReadonlyMap<string, ZipEntry>,
  prefix: string,
  file: string,
): ZipEntry {
  const entry = entries.get(`${prefix}data/${storage.key}`);
  const bytes = storage.size * BYTES_PER_FILE_ELEMENT[storage.dtype];
  if (entry === undefined || entry.size < bytes) {
    const got = entry === undefined ? "is missing" : `has ${entry.size}`;
    throw new CheckpointError(
      `${file}: storage ${quote(storage.key)} must have ${bytes} bytes, it ${got}. The file is truncated or damaged: download it again.`,
    );
  }
  return entry;
}
