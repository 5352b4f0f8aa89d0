// The GPU backend: tensors in WebGPU buffers, kernels in WGSL; in browsers, and in Node through Dawn. It knows buffers,
// pipelines and submissions, and no mathematics.
import type { DType, HostArray } from "../../core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import { BackendError } from "../../core/errors.ts";
import type { Backend, MemoryAccount, Plan, Storage } from "../backend.ts";
import type { GpuDescription, GpuFeature, GpuOptions, OpenedGpu } from "./adapter.ts";
import { openGpu } from "./adapter.ts";
import { COPY_WORKGROUP, copyElements, zeroColumns } from "./copy-kernels.ts";
import type { Kernel } from "./kernel.ts";
import type { Params } from "./params.ts";
import { ParamSlots } from "./params.ts";
import type { BoundRange } from "./pipelines.ts";
import { Pipelines } from "./pipelines.ts";
import { BufferPool } from "./pool.ts";
import type { Profile } from "./profile.ts";
import { profile } from "./profile.ts";
import type { Command } from "./recorder.ts";
import { Recorder } from "./recorder.ts";
import type { Place, WebGpuStorage } from "./storage.ts";
import { isAllPromised, isSomePromised, keepPromise, promiseZeros } from "./storage.ts";
import { decodeElements, encodeElements, Staging } from "./transfer.ts";

export type { GpuDescription, GpuFeature, GpuOptions, MatrixShape } from "./adapter.ts";
export type { Profile } from "./profile.ts";
export type { Place, WebGpuStorage } from "./storage.ts";
export { defineKernel } from "./kernel.ts";
export type { Kernel, KernelFamily, KernelSpec } from "./kernel.ts";

/** Workgroups: x, and if need be y and z. */
export type Groups = readonly [x: number, y?: number, z?: number];

/** What a capture gathers. */
interface Capture {
  readonly commands: Command[];
  readonly params: ParamSlots;
  readonly released: GPUBuffer[];
}

const OFFSET_ALIGNMENT = 256;

/** Tensors in GPU buffers, and kernels over them. Everything is queued; only {@link read} waits. */
export class WebGpuBackend implements Backend {
  readonly name = "webgpu" as const;
  readonly threads = 1;
  readonly device: GPUDevice;
  readonly about: GpuDescription;
  /** Bytes of a tensor, or of a part of it, that one kernel can see at the most. */
  readonly maxBindingBytes: number;
  /** The op at work, for messages. */
  label = "";
  readonly #pool: BufferPool;
  readonly #pipelines: Pipelines;
  readonly #recorder: Recorder;
  readonly #staging: Staging;
  #params: ParamSlots;
  #capture: Capture | undefined;
  /** While kernels are only gathered, to be compiled ahead. */
  #gathered: Set<Kernel> | undefined;
  #failure: BackendError | undefined;
  #isDisposed = false;

  private constructor({ device, about }: OpenedGpu, options: GpuOptions) {
    this.device = device;
    this.about = about;
    this.maxBindingBytes = Math.min(
      device.limits.maxStorageBufferBindingSize,
      options.maxBindingBytes ?? Number.MAX_SAFE_INTEGER,
    );
    this.#pool = new BufferPool(device);
    this.#pipelines = new Pipelines(device);
    this.#recorder = new Recorder(device);
    this.#staging = new Staging(device);
    this.#params = new ParamSlots(device);
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#failure ??= describeFailure((event as GPUUncapturedErrorEvent).error);
    });
    void device.lost.then(({ message }) => {
      if (!this.#isDisposed) this.#failure = lostError(message);
    });
  }

  /** @throws BackendError when there is no adapter, or it lacks what is required */
  static async create(options: GpuOptions = {}): Promise<WebGpuBackend> {
    return new WebGpuBackend(await openGpu(options), options);
  }

  has(feature: GpuFeature): boolean {
    return this.about.features.has(feature);
  }

  /** Resolves with the reason when the device is lost; then open a new one. Never for one that was disposed of. */
  get lost(): Promise<string> {
    return this.device.lost.then(({ message }) => (this.#isDisposed ? new Promise<string>(() => undefined) : message));
  }

  allocate(dtype: DType, count: number): WebGpuStorage {
    this.#check();
    const bytes = Math.ceil((count * BYTES_PER_ELEMENT[dtype]) / 4) * 4;
    const most = this.device.limits.maxBufferSize;
    if (bytes > most)
      throw new BackendError(
        `webgpu: ${this.#where()}a tensor of ${mebibytes(bytes)} does not fit: a buffer of this device holds ${mebibytes(most)} at the most. Use a smaller batch or length.`,
      );
    if (dtype === "f16" && !this.has("shader-f16"))
      throw new BackendError("webgpu: this device has no shader-f16. Use dtype f32 or int8, or another GPU.");
    return {
      dtype,
      count,
      buffer: this.#pool.take(bytes, this.label),
      zeros: undefined,
      mirror: undefined,
      version: 0,
      derived: undefined,
    };
  }

  release(storage: Storage): void {
    const { buffer, derived } = storage as WebGpuStorage;
    for (const { storage: beside } of derived?.values() ?? []) this.release(beside);
    if (this.#capture) this.#capture.released.push(buffer);
    else if (!this.#isDisposed) this.#pool.give(buffer);
  }

  write(storage: Storage, data: HostArray, offset = 0): void {
    const target = storage as WebGpuStorage;
    if (offset + data.length > storage.count)
      throw new BackendError(
        `webgpu: ${data.length} elements at ${offset} do not fit into a tensor of ${storage.count}.`,
      );
    this.#check();
    if (this.#gathered || data.length === 0) return;
    const isWhole = offset === 0 && data.length === storage.count;
    target.version++;
    if (isWhole) target.zeros = undefined;
    else this.#writeZeros(target);
    target.mirror = isWhole && storage.dtype === "i32" ? data.slice() : undefined;
    const size = BYTES_PER_ELEMENT[storage.dtype];
    const isAligned = (offset * size) % 4 === 0 && (isWhole || (data.length * size) % 4 === 0);
    if (!isAligned) return this.#writeUnaligned(target, data, offset);
    this.#submitBeforeWrite();
    this.device.queue.writeBuffer(
      target.buffer,
      offset * size,
      encodeElements(storage.dtype, data) as Uint8Array<ArrayBuffer>,
    );
  }

  copy(from: Storage, fromOffset: number, to: Storage, toOffset: number, count: number): void {
    this.#check();
    if (this.#gathered) return;
    const [source, target] = [from as WebGpuStorage, to as WebGpuStorage];
    this.#writeZeros(source);
    if (toOffset === 0 && count === target.count) target.zeros = undefined;
    else this.#writeZeros(target);
    target.mirror = undefined;
    target.version++;
    const size = BYTES_PER_ELEMENT[from.dtype];
    const [fromByte, toByte, bytes] = [fromOffset * size, toOffset * size, count * size];
    if ([fromByte, toByte, bytes].some((byte) => byte % 4 !== 0) || source.buffer === target.buffer)
      return this.#copyByKernel(source, fromOffset, target, toOffset, count);
    this.#encode({ copy: { from: source.buffer, fromByte, to: target.buffer, toByte, bytes } });
  }

  async read(storage: Storage, offset: number, count: number): Promise<HostArray> {
    const { dtype } = storage;
    return this.#readBytes(storage, offset, count, (mapped, skip) => decodeElements(dtype, mapped, skip, count));
  }

  async readInto(storage: Storage, offset: number, target: Float32Array): Promise<void> {
    const { dtype } = storage;
    await this.#readBytes(storage, offset, target.length, (mapped, skip) =>
      target.set(
        dtype === "f32"
          ? new Float32Array(mapped, skip, target.length)
          : decodeElements(dtype, mapped, skip, target.length),
      ),
    );
  }

  readNow(storage: Storage, offset: number, count: number): HostArray {
    const { mirror } = storage as WebGpuStorage;
    if (mirror) return mirror.slice(offset, offset + count);
    throw new BackendError("webgpu: a GPU's memory cannot be read at once. Use `await tensor.read()`.");
  }

  peek(storage: Storage): HostArray | undefined {
    return (storage as WebGpuStorage).mirror;
  }

  /** Promises zeros: they are written when something reads them, and never where a kernel overwrites them first. */
  clear(storage: Storage): void {
    const target = storage as WebGpuStorage;
    promiseZeros(target);
    target.mirror = undefined;
    target.version++;
  }

  /** Whether there is anything to add to: false where all elements are zeros that nobody wrote, so that a kernel may overwrite. */
  hasContent(place: Place): boolean {
    return !isAllPromised(place);
  }

  /**
   * Memory beside a storage for something that follows from its contents (a weight in float16), made by `make` when the
   * contents changed since the last call, and given back together with the storage.
   */
  derived(
    from: Storage,
    key: string,
    { dtype, count }: { dtype: DType; count: number },
    make: (into: WebGpuStorage) => void,
  ): WebGpuStorage {
    const source = from as WebGpuStorage;
    source.derived ??= new Map();
    let entry = source.derived.get(key);
    if (!entry) {
      entry = { storage: this.allocate(dtype, count), version: -1 };
      source.derived.set(key, entry);
    }
    if (entry.version !== source.version) {
      make(entry.storage);
      if (!this.#gathered) entry.version = source.version;
    }
    return entry.storage;
  }

  /**
   * Queues a kernel over tensors (or whole storages) by buffer name.
   * @param params values of the kernel's own parameters
   * @param groups workgroups, at most 65535 an axis: see {@link groupsFor}
   * @throws BackendError when a tensor is larger than a binding (split it by rows, see splitRows), or is bound twice, once to be written
   */
  dispatch(
    kernel: Kernel,
    buffers: { readonly [name: string]: Place | WebGpuStorage },
    params: Params,
    groups: Groups,
  ): void {
    this.#check();
    if (this.#gathered) {
      this.#gathered.add(kernel);
      return;
    }
    const values: Record<string, number> = { ...params };
    const ranges = kernel.buffers.map(({ name, use }) => {
      const place = placeOf(buffers[name], kernel, name);
      this.#settleZeros(place, use);
      const range = this.#rangeOf(place, kernel.name, name);
      values[`${name}_at`] = range.at;
      values[`${name}_stride`] = place.rowStride;
      return range;
    });
    checkAliases(kernel, ranges);
    if (this.#params.isFull) this.#recycleParams();
    const compiled = this.#pipelines.pipelineOf(kernel);
    const slot = this.#params.slotFor(kernel.params, values);
    const group = this.#pipelines.groupOf(compiled, this.#params.buffer, ranges);
    const [x, y = 1, z = 1] = groups;
    if (x * y * z === 0) return;
    const label = this.label ? `${this.label}: ${kernel.name}` : kernel.name;
    this.#encode({ label, pipeline: compiled.pipeline, group, slot, groups: [x, y, z] });
  }

  /**
   * Compiles, side by side, every kernel that `body` dispatches, without running any. Tensors made inside must be
   * released as usual (scope).
   */
  async compileAhead(body: () => void): Promise<void> {
    const gathered = new Set<Kernel>();
    this.#gathered = gathered;
    try {
      body();
    } finally {
      this.#gathered = undefined;
    }
    await this.#pipelines.compileAhead(gathered);
  }

  /** Records what `body` queues, without running it, as a plan. Tensors made inside keep their memory until it is disposed. */
  capture(body: () => void): Plan {
    if (this.#capture) throw new BackendError("webgpu: a capture cannot begin inside another.");
    const outer = this.#params;
    const capture: Capture = { commands: [], params: new ParamSlots(this.device), released: [] };
    this.#capture = capture;
    this.#params = capture.params;
    try {
      body();
    } finally {
      this.#capture = undefined;
      this.#params = outer;
    }
    return {
      run: () => {
        this.#check();
        for (const command of capture.commands) this.#recorder.encode(command);
      },
      dispose: () => {
        this.#recorder.submit();
        this.#pipelines.forgetGroups();
        capture.params.destroy();
        if (!this.#isDisposed) capture.released.forEach((buffer) => this.#pool.give(buffer));
      },
    };
  }

  /** Sends what is queued to the GPU now, without waiting. */
  submit(): void {
    this.#recorder.submit();
  }

  /** Resolves when everything queued so far is done. Throws what failed on the way. */
  async finish(): Promise<void> {
    this.#recorder.submit();
    await this.device.queue.onSubmittedWorkDone();
    this.#check();
  }

  /** GPU time of what `body` queues; see profile.ts. */
  async profile(body: () => void, options: { isFine?: boolean } = {}): Promise<Profile> {
    const result = await profile(this.device, this.#recorder, body, options);
    this.#check();
    return result;
  }

  memory(): MemoryAccount {
    return this.#pool.account();
  }

  /** Gives memory that is kept for the next tensors back to the system. */
  trim(): void {
    this.#recorder.submit();
    this.#pipelines.forgetGroups();
    this.#pool.trim();
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#recorder.submit();
    this.#pipelines.forgetGroups();
    this.#pool.trim();
    this.#staging.destroy();
    this.#params.destroy();
    this.device.destroy();
  }

  #encode(command: Command): void {
    if (this.#capture) this.#capture.commands.push(command);
    else this.#recorder.encode(command);
  }

  /** The host writes at once, behind what was submitted; what only waits must not see it. */
  #submitBeforeWrite(): void {
    this.#recorder.submit();
  }

  #recycleParams(): void {
    if (this.#capture) throw new BackendError("webgpu: a plan has too many kernels with parameters of their own.");
    this.#recorder.submit();
    this.#params.clear();
  }

  /** Before a kernel uses a place: writes promised zeros that it will read, and drops those that it overwrites. */
  #settleZeros(place: Place, use: "read" | "write" | "add"): void {
    const storage = place.storage as WebGpuStorage;
    if (use !== "read") {
      storage.mirror = undefined;
      storage.version++;
    }
    if (!storage.zeros) return;
    if (use === "write" ? !keepPromise(place) : isSomePromised(place)) this.#writeZeros(storage);
  }

  #writeZeros(storage: WebGpuStorage): void {
    const { zeros } = storage;
    if (!zeros) return;
    storage.zeros = undefined;
    const { width, ranges } = zeros;
    if (width === storage.count)
      return this.#encode({ zero: { buffer: storage.buffer, byte: 0, bytes: storage.buffer.size } });
    const rows = storage.count / width;
    const type = storage.dtype === "f16" ? "f16" : "f32";
    for (const [start, end] of ranges) {
      const columns = end - start;
      const y = { storage, offset: start, rowStride: width, rows, columns };
      this.dispatch(zeroColumns({ type }), { y }, { rows, columns }, groupsFor(rows * columns, COPY_WORKGROUP));
    }
  }

  #writeUnaligned(target: WebGpuStorage, data: HostArray, offset: number): void {
    const piece = this.allocate(target.dtype, data.length);
    this.write(piece, data);
    this.#copyByKernel(piece, 0, target, offset, data.length);
    this.release(piece);
  }

  /** Element by element: for halves at odd places, and within one buffer, which an ordinary copy refuses. */
  #copyByKernel(from: WebGpuStorage, fromOffset: number, to: WebGpuStorage, toOffset: number, count: number): void {
    if (from.buffer === to.buffer) {
      const piece = this.allocate(from.dtype, count);
      this.copy(from, fromOffset, piece, 0, count);
      this.copy(piece, 0, to, toOffset, count);
      return this.release(piece);
    }
    if (from.dtype === "i8") throw new BackendError("webgpu: packed bytes are copied in whole words only.");
    const place = (storage: WebGpuStorage, offset: number): Place => ({
      storage,
      offset,
      rowStride: count,
      rows: 1,
      columns: count,
    });
    const kernel = copyElements({ type: from.dtype === "f16" ? "f16" : "f32" });
    const buffers = { source: place(from, fromOffset), to: place(to, toOffset) };
    this.dispatch(kernel, buffers, { count }, groupsFor(count, COPY_WORKGROUP));
  }

  async #readBytes<T>(
    storage: Storage,
    offset: number,
    count: number,
    use: (mapped: ArrayBuffer, skip: number) => T,
  ): Promise<T> {
    const source = storage as WebGpuStorage;
    this.#check();
    this.#writeZeros(source);
    this.#recorder.submit();
    const size = BYTES_PER_ELEMENT[storage.dtype];
    const start = Math.floor((offset * size) / 4) * 4;
    const end = Math.ceil(((offset + count) * size) / 4) * 4;
    try {
      const result = await this.#staging.read(source.buffer, start, end - start, (mapped) =>
        use(mapped, offset * size - start),
      );
      this.#check();
      return result;
    } catch (cause) {
      this.#check();
      throw new BackendError(`webgpu: reading back failed: ${(cause as Error).message}`, { cause });
    }
  }

  /** The part of a buffer that a kernel must see, and where in it the tensor begins. */
  #rangeOf(place: Place, kernel: string, name: string): BoundRange & { readonly at: number } {
    const { buffer, dtype } = place.storage as WebGpuStorage;
    const size = BYTES_PER_ELEMENT[dtype];
    const first = place.offset * size;
    const offset = Math.floor(first / OFFSET_ALIGNMENT) * OFFSET_ALIGNMENT;
    const end = (place.offset + (place.rows - 1) * place.rowStride + place.columns) * size;
    // Whole vectors of 16 bytes, as kernels read them; buffers are a multiple of 256 bytes long.
    const bytes = Math.max(16, Math.ceil((end - offset) / 16) * 16);
    if (bytes > this.maxBindingBytes)
      throw new BackendError(
        `webgpu: ${kernel}: ${name} takes ${mebibytes(bytes)}, and a kernel of this device sees ${mebibytes(this.maxBindingBytes)} at once. Use a smaller batch or length.`,
      );
    return { buffer, offset, size: bytes, at: (first - offset) / size };
  }

  #where(): string {
    return this.label ? `${this.label}: ` : "";
  }

  #check(): void {
    if (this.#isDisposed) throw new BackendError("webgpu: this device was disposed of. Open a new one.");
    if (this.#failure) throw this.#failure;
  }
}

/** Workgroups of `size` threads for `count` items, folded over two axes where one is not enough. */
export function groupsFor(count: number, size: number): Groups {
  const groups = Math.ceil(count / size);
  const most = 65535;
  if (groups <= most) return [groups];
  const y = Math.ceil(groups / most);
  return [Math.ceil(groups / y), y];
}

function placeOf(value: Place | WebGpuStorage | undefined, kernel: Kernel, name: string): Place {
  if (!value) throw new BackendError(`webgpu: ${kernel.name}: nothing was given for its buffer ${name}.`);
  if ("storage" in value) return value;
  return { storage: value, offset: 0, rowStride: value.count, rows: 1, columns: value.count };
}

function checkAliases({ name, buffers }: Kernel, ranges: readonly BoundRange[]): void {
  for (let i = 0; i < ranges.length; i++) {
    if (buffers[i].use === "read") continue;
    for (let j = 0; j < ranges.length; j++)
      if (i !== j && ranges[i].buffer === ranges[j].buffer)
        throw new BackendError(
          `webgpu: ${name}: ${buffers[i].name} and ${buffers[j].name} lie in one buffer, and a kernel may not write one of them. Write from a kernel of its own.`,
        );
  }
}

function describeFailure(error: GPUError): BackendError {
  const isMemory =
    "GPUOutOfMemoryError" in globalThis
      ? error instanceof GPUOutOfMemoryError
      : error.constructor.name === "GPUOutOfMemoryError" || /out of memory/i.test(error.message);
  return new BackendError(
    isMemory
      ? `webgpu: the device's memory is full: ${error.message} Use a smaller batch or length, f16 or int8 weights, or --checkpoint-blocks.`
      : `webgpu: ${error.message}`,
    { cause: error },
  );
}

function lostError(message: string): BackendError {
  return new BackendError(
    `webgpu: the device was lost (${message || "no reason given"}). Open a new one and load again.`,
  );
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
