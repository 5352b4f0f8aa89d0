// Tensor: a shape over a piece of device memory, row-major; and views of columns, which share that memory.
import type { Backend, Storage } from "../backends/backend.ts";
import type { DType, HostArray } from "../core/dtype.ts";
import { DTypeError, ShapeError } from "../core/errors.ts";
import type { Shape } from "../core/shape.ts";
import { formatShape, sizeOf } from "../core/shape.ts";
import { currentScope } from "./scope.ts";

/**
 * How the elements of a weight lie in memory. rows: row-major. panels: float32 packed for products (inference).
 * int8: quantised by rows and packed (inference). Packed tensors are opaque to every op but `linear` and `embedding`.
 */
export type Format = "rows" | "panels" | "int8";

interface TensorParts {
  backend: Backend;
  shape: Shape;
  dtype: DType;
  storage: Storage;
  format?: Format;
  offset?: number;
  rowStride?: number;
  base?: Tensor;
}

/**
 * Numbers on a device under a shape, row-major, the last axis contiguous. Immutable in shape; ops make new tensors and
 * never consume their arguments. Its memory is given back by {@link scope}, `using`, or {@link Tensor.dispose}.
 */
export class Tensor {
  readonly backend: Backend;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly format: Format;
  readonly storage: Storage;
  /** Elements before the first. */
  readonly offset: number;
  /** Elements from one row to the next; a row is the last axis. Equal to {@link columns} unless this is a view of columns. */
  readonly rowStride: number;
  /** The tensor whose memory this one shows, if it is a view. */
  readonly base: Tensor | undefined;
  /** Whether the tape follows it. Set on parameters, and by the tape on what is computed from them. */
  requiresGrad = false;
  #isDisposed = false;

  /** Use {@link tensorFrom}, {@link emptyTensor} or {@link zeros} instead. */
  constructor(parts: TensorParts) {
    this.backend = parts.backend;
    this.shape = parts.shape;
    this.dtype = parts.dtype;
    this.format = parts.format ?? "rows";
    this.storage = parts.storage;
    this.offset = parts.offset ?? 0;
    this.rowStride = parts.rowStride ?? parts.shape.at(-1) ?? 1;
    this.base = parts.base;
    if (!this.base) currentScope()?.add(this);
  }

  get size(): number {
    return sizeOf(this.shape);
  }

  /** Elements of the last axis; 1 for a scalar. */
  get columns(): number {
    return this.shape.at(-1) ?? 1;
  }

  /** Product of all axes but the last. */
  get rows(): number {
    return this.columns === 0 ? 0 : this.size / this.columns;
  }

  get isContiguous(): boolean {
    return this.rowStride === this.columns;
  }

  get isDisposed(): boolean {
    return this.#isDisposed || (this.base?.isDisposed ?? false);
  }

  /** A view of columns [start, end) of the last axis. Shares memory; gradients flow through it. */
  columnsOf(start: number, end: number): Tensor {
    if (!(start >= 0 && start < end && end <= this.columns))
      throw new ShapeError(`columnsOf: the range must lie within 0..${this.columns}, got ${start}..${end}.`);
    return this.#view([...this.shape.slice(0, -1), end - start], this.offset + start, this.rowStride);
  }

  /** The same elements under another shape. A view of columns may change only the axes before the last. */
  reshape(shape: Shape): Tensor {
    const keepsRows = this.isContiguous || shape.at(-1) === this.columns;
    if (sizeOf(shape) !== this.size || !keepsRows)
      throw new ShapeError(
        `reshape: ${formatShape(this.shape)} cannot become ${formatShape(shape)}: the number of elements must stay, and a view of columns keeps its last axis.`,
      );
    return this.#view(shape, this.offset, this.isContiguous ? (shape.at(-1) ?? 1) : this.rowStride);
  }

  /** A view of `count` entries of the first axis, from `start` on. */
  entries(start: number, count: number): Tensor {
    const [first = 0, ...rest] = this.shape;
    if (!(rest.length > 0 && start >= 0 && count >= 1 && start + count <= first))
      throw new ShapeError(
        `entries: the range must lie within the first axis of ${formatShape(this.shape)}, got ${start}..${start + count}.`,
      );
    const rowsPerEntry = sizeOf(rest.slice(0, -1));
    return this.#view([count, ...rest], this.offset + start * rowsPerEntry * this.rowStride, this.rowStride);
  }

  /** A view of rows [start, start + count), all axes but the last taken together: `[count, columns]`. */
  rowsOf(start: number, count: number): Tensor {
    if (!(start >= 0 && count >= 1 && start + count <= this.rows))
      throw new ShapeError(`rowsOf: the range must lie within ${this.rows} rows, got ${start}..${start + count}.`);
    return this.#view([count, this.columns], this.offset + start * this.rowStride, this.rowStride);
  }

  /** A view with the same place and shape that `view` has in its own base. */
  viewAs(view: Tensor): Tensor {
    return this.#view(view.shape, this.offset + view.offset, view.rowStride);
  }

  #view(shape: Shape, offset: number, rowStride: number): Tensor {
    if (this.format !== "rows") throw new DTypeError(`A packed weight (${this.format}) has no views.`);
    const { backend, dtype, storage } = this;
    const view = new Tensor({ backend, dtype, storage, shape, offset, rowStride, base: this.base ?? this });
    view.requiresGrad = this.requiresGrad;
    return view;
  }

  /** All elements in the device's own precision, rows closed up. The only asynchronous step of computing. */
  async readNative(): Promise<HostArray> {
    this.#checkReadable();
    if (this.size === 0) return new Float32Array(0);
    if (this.isContiguous) return this.backend.read(this.storage, this.offset, this.size);
    return this.#closeUp(await this.backend.read(this.storage, this.offset, this.#span));
  }

  /** All elements as float32, in a new array or in `into`, whose length must be that of the tensor. */
  async read(into?: Float32Array): Promise<Float32Array> {
    if (into && into.length === this.size && this.isContiguous) {
      this.#checkReadable();
      await this.backend.readInto(this.storage, this.offset, into);
      return into;
    }
    const data = await this.readNative();
    if (into) into.set(data);
    return into ?? (data instanceof Float32Array ? data : Float32Array.from(data));
  }

  /** All elements, at once. For backends whose memory is the host's (reference, wasm); elsewhere a BackendError. */
  readNow(): HostArray {
    this.#checkReadable();
    if (this.isContiguous) return this.backend.readNow(this.storage, this.offset, this.size);
    return this.#closeUp(this.backend.readNow(this.storage, this.offset, this.#span));
  }

  /** All elements if the host knows them without waiting for the device (ids that it wrote there), else undefined. */
  peek(): HostArray | undefined {
    this.#checkReadable();
    const all = this.backend.peek(this.storage)?.subarray(this.offset, this.offset + this.#span);
    return all && (this.isContiguous ? all : this.#closeUp(all));
  }

  /** Elements of memory from the first to the last. */
  get #span(): number {
    return this.size === 0 ? 0 : (this.rows - 1) * this.rowStride + this.columns;
  }

  #checkReadable(): void {
    if (this.isDisposed)
      throw new ShapeError("Tensor.read: this tensor's memory was given back (by its scope or dispose).");
    if (this.format !== "rows")
      throw new DTypeError(`Tensor.read: a packed weight (${this.format}) must be unpacked first.`);
  }

  #closeUp(span: HostArray): HostArray {
    const data = new (span.constructor as new (count: number) => HostArray)(this.size);
    for (let row = 0; row < this.rows; row++)
      data.set(span.subarray(row * this.rowStride, row * this.rowStride + this.columns), row * this.columns);
    return data;
  }

  /** Replaces all elements. */
  write(data: HostArray): void {
    if (data.length !== this.size)
      throw new ShapeError(`Tensor.write: ${formatShape(this.shape)} takes ${this.size} elements, got ${data.length}.`);
    if (this.isContiguous) return this.backend.write(this.storage, data, this.offset);
    for (let row = 0; row < this.rows; row++)
      this.backend.write(
        this.storage,
        data.subarray(row * this.columns, (row + 1) * this.columns),
        this.offset + row * this.rowStride,
      );
  }

  /** Gives the memory back. A view gives nothing back: its base owns the memory. */
  dispose(): void {
    if (this.base || this.#isDisposed) return;
    this.#isDisposed = true;
    this.backend.release(this.storage);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A tensor with undefined contents. */
export function emptyTensor(backend: Backend, shape: Shape, dtype: DType = "f32"): Tensor {
  return new Tensor({ backend, shape, dtype, storage: backend.allocate(dtype, sizeOf(shape)) });
}

/** A tensor of zeros. */
export function zeros(backend: Backend, shape: Shape, dtype: DType = "f32"): Tensor {
  const tensor = emptyTensor(backend, shape, dtype);
  fillZero(tensor);
  return tensor;
}

/** A tensor with the given elements. */
export function tensorFrom(
  backend: Backend,
  data: HostArray | readonly number[],
  shape: Shape,
  dtype: DType = "f32",
): Tensor {
  if (data.length !== sizeOf(shape))
    throw new ShapeError(`tensorFrom: ${formatShape(shape)} takes ${sizeOf(shape)} elements, got ${data.length}.`);
  const tensor = emptyTensor(backend, shape, dtype);
  tensor.write(Array.isArray(data) ? Float64Array.from(data) : (data as HostArray));
  return tensor;
}

/** A new tensor with the elements of another, copied on the device. */
export function copyOf(tensor: Tensor): Tensor {
  const copy = emptyTensor(tensor.backend, tensor.shape, tensor.dtype);
  copyInto(tensor, copy);
  return copy;
}

/**
 * Copies all elements of a tensor into another of the same size and dtype, on the device. Views of columns are copied row
 * by row, and both must have rows of one length then.
 */
export function copyInto(from: Tensor, to: Tensor): void {
  const isClosedUp = from.isContiguous && to.isContiguous;
  if (from.size !== to.size || from.dtype !== to.dtype || !(isClosedUp || from.columns === to.columns))
    throw new ShapeError(
      `copyInto: both must have one size and one dtype, and views of columns rows of one length, got ${from.dtype} ${formatShape(from.shape)} and ${to.dtype} ${formatShape(to.shape)}.`,
    );
  if (isClosedUp) return from.backend.copy(from.storage, from.offset, to.storage, to.offset, from.size);
  for (let row = 0; row < from.rows; row++) {
    const [source, target] = [from.offset + row * from.rowStride, to.offset + row * to.rowStride];
    from.backend.copy(from.storage, source, to.storage, target, from.columns);
  }
}

/** Sets all elements of an owning tensor to zero. */
export function fillZero(tensor: Tensor): void {
  tensor.backend.clear(tensor.storage);
}
