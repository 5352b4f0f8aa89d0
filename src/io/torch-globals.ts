// The only names that a pickle of PyTorch may use, and what they become: descriptions of storages and tensors, never code.
// Source: PyTorch, torch/_utils.py (_rebuild_tensor_v2, _rebuild_parameter) and torch/serialization.py (persistent ids).
import { CheckpointError } from "../core/errors.ts";
import { PickleTuple } from "./pickle.ts";
import type { PickleFunction, PickleHost } from "./pickle.ts";
import type { StridedView } from "./strided.ts";
import { isNested, spanOf } from "./strided.ts";
import type { FileDType } from "./tensor-info.ts";
import { describe, quote } from "./text.ts";

const MOST_AXES = 32;

/** Class names of storages, in the module `torch`. */
const STORAGE_DTYPES: ReadonlyMap<string, FileDType> = new Map([
  ["torch.DoubleStorage", "F64"],
  ["torch.FloatStorage", "F32"],
  ["torch.HalfStorage", "F16"],
  ["torch.BFloat16Storage", "BF16"],
  ["torch.LongStorage", "I64"],
  ["torch.IntStorage", "I32"],
  ["torch.ShortStorage", "I16"],
  ["torch.CharStorage", "I8"],
  ["torch.ByteStorage", "U8"],
  ["torch.BoolStorage", "BOOL"],
  ["torch.UntypedStorage", "U8"],
  ["torch.storage.UntypedStorage", "U8"],
]);

/** A block of memory of the archive, entry `data/<key>`; several tensors may share it. */
export class TorchStorage {
  readonly dtype: FileDType;
  readonly key: string;
  /** Elements. */
  readonly size: number;
  constructor(dtype: FileDType, key: string, size: number) {
    this.dtype = dtype;
    this.key = key;
    this.size = size;
  }
}

/** A tensor: a view of a storage. */
export class TorchTensor {
  readonly storage: TorchStorage;
  readonly view: StridedView;
  constructor(storage: TorchStorage, view: StridedView) {
    this.storage = storage;
    this.view = view;
  }
}

/** What pickles of PyTorch may name, for one file. Everything else is refused with a CheckpointError that says its name. */
export function torchHost(file: string): PickleHost {
  const functions = new Map<string, PickleFunction>([
    ["collections.OrderedDict", (args) => makeDict(args, file)],
    ["torch.Size", ([sizes]) => sizes],
    ["torch._utils._rebuild_tensor_v2", (args) => makeTensor(args, file)],
    ["torch._utils._rebuild_parameter", (args) => unwrapParameter(args, file)],
  ]);
  const storageTypes = new Map<unknown, FileDType>();
  for (const [name, dtype] of STORAGE_DTYPES) {
    const storageType: PickleFunction = () => refuse(file, "makes a storage that is not in the archive");
    functions.set(name, storageType);
    storageTypes.set(storageType, dtype);
  }
  return {
    findGlobal(module, name) {
      const found = functions.get(`${module}.${name}`);
      if (found === undefined) {
        throw new CheckpointError(
          `${file}: the pickle asks for ${quote(`${module}.${name}`)}. Only tensors are read from pickles, nothing is executed. ` +
            `If you trust the file, load it in Python and save model.state_dict() as safetensors.`,
        );
      }
      return found;
    },
    loadPersistent: (id) => makeStorage(id, storageTypes, file),
  };
}

function refuse(file: string, what: string): never {
  throw new CheckpointError(
    `${file}: the pickle ${what}. The file is damaged or hostile: download it again, or convert it to safetensors.`,
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function makeDict(args: readonly unknown[], file: string): Map<unknown, unknown> {
  if (args.length !== 0) refuse(file, "makes an OrderedDict from arguments");
  return new Map();
}

/** A persistent id is ("storage", type, key, location, number of elements); the location (a device) does not matter here. */
function makeStorage(id: unknown, storageTypes: ReadonlyMap<unknown, FileDType>, file: string): TorchStorage {
  const [kind, type, key, , size] = id instanceof PickleTuple ? id.items : [];
  const dtype = storageTypes.get(type);
  if (kind !== "storage" || dtype === undefined || typeof key !== "string" || !isCount(size))
    refuse(file, "has a persistent id that is no storage");
  return new TorchStorage(dtype, key, size);
}

function unwrapParameter(args: readonly unknown[], file: string): TorchTensor {
  const tensor = args[0];
  if (!(tensor instanceof TorchTensor)) refuse(file, `makes a parameter from ${describe(tensor)}`);
  return tensor;
}

/** _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks, metadata). */
function makeTensor(args: readonly unknown[], file: string): TorchTensor {
  const [storage, offset] = args;
  if (!(storage instanceof TorchStorage) || !isCount(offset)) refuse(file, "makes a tensor without a storage");
  const shape = countsOf(args[2], "size", file);
  const strides = countsOf(args[3], "stride", file);
  if (shape.length !== strides.length)
    refuse(file, `makes a tensor of ${shape.length} sizes and ${strides.length} strides`);
  const view = { offset, shape, strides };
  if (shape.includes(0)) return new TorchTensor(storage, view);
  if (offset + spanOf(view) > storage.size) {
    refuse(file, `makes a tensor [${shape.join(", ")}] that leaves its storage of ${storage.size} elements`);
  }
  if (!isNested(view))
    refuse(
      file,
      `makes a tensor [${shape.join(", ")}] of strides [${strides.join(", ")}], whose elements overlap (call .contiguous() before saving)`,
    );
  return new TorchTensor(storage, view);
}

function countsOf(value: unknown, what: string, file: string): number[] {
  const items = value instanceof PickleTuple ? value.items : [];
  const isGood = value instanceof PickleTuple && items.length <= MOST_AXES && items.every(isCount);
  if (!isGood) refuse(file, `makes a tensor whose ${what} is no tuple of at most ${MOST_AXES} non-negative integers`);
  return items as number[];
}
