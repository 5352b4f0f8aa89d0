// The memory of tensors on a GPU: allocated and given back, zeros promised and kept, and what is derived from it.
import type { DType } from "../../core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import { BackendError } from "../../core/errors.ts";
import type { Commands } from "./commands.ts";
import { COPY_WORKGROUP, zeroColumns } from "./copy-kernels.ts";
import { groupsFor, rangeOf } from "./dispatch.ts";
import type { Capture } from "./plan.ts";
import type { BufferPool } from "./pool.ts";
import type { ContentState, Place, WebGpuStorage } from "./storage.ts";
import { contentState, isAllPromised, isSomePromised, isWholePromised, keepPromise, promiseZeros } from "./storage.ts";

export class Memory {
  readonly #pool: BufferPool;
  readonly #commands: Commands;
  readonly #maxBindingBytes: number;
  /** What was known of storages before a dry run touched them. */
  #before: Map<WebGpuStorage, ContentState> | undefined;

  constructor(pool: BufferPool, commands: Commands, maxBindingBytes: number) {
    this.#pool = pool;
    this.#commands = commands;
    this.#maxBindingBytes = maxBindingBytes;
  }

  allocate(dtype: DType, count: number, label: string): WebGpuStorage {
    const size = this.#pool.sizeFor(count * BYTES_PER_ELEMENT[dtype], label);
    const { capture } = this.#commands;
    const buffer = capture?.takeFree(size) ?? this.#pool.take(size, label);
    const storage: WebGpuStorage = {
      dtype,
      count,
      buffer,
      zeros: undefined,
      mirror: undefined,
      version: 0,
      derived: undefined,
    };
    capture?.addOwn(storage);
    return storage;
  }

  release(storage: WebGpuStorage): void {
    for (const { storage: beside } of storage.derived?.values() ?? []) this.release(beside);
    const { capture } = this.#commands;
    if (capture) capture.keep(storage);
    else this.#pool.give(storage.buffer);
  }

  /** Before a kernel, a copy or the host uses a place: writes promised zeros that it will read, drops those that it overwrites. */
  settle(place: Place, use: "read" | "write" | "add"): void {
    const storage = place.storage as WebGpuStorage;
    if (this.#pool.isVoid(storage.buffer))
      throw new BackendError("webgpu: there was no memory for a tensor that is used here. Make it anew.");
    this.#touch(storage);
    if (use !== "read") {
      storage.mirror = undefined;
      storage.version++;
      this.#commands.capture?.noteWritten(storage);
    }
    if (!storage.zeros) return;
    if (use === "write" ? !keepPromise(place) : isSomePromised(place)) this.writeZeros(storage);
  }

  /** Promises zeros everywhere. */
  clear(storage: WebGpuStorage): void {
    this.#touch(storage);
    promiseZeros(storage);
    storage.mirror = undefined;
    storage.version++;
    this.#commands.capture?.noteWritten(storage);
  }

  hasContent(place: Place): boolean {
    this.#touch(place.storage as WebGpuStorage);
    return !isAllPromised(place);
  }

  /** Keeps all promises of a storage. */
  writeZeros(storage: WebGpuStorage): void {
    const { zeros } = storage;
    if (!zeros) return;
    const isWhole = isWholePromised(storage);
    storage.zeros = undefined;
    const { width, ranges } = zeros;
    if (isWhole)
      return this.#commands.encode({ zero: { buffer: storage.buffer, byte: 0, bytes: storage.buffer.size } });
    const rows = storage.count / width;
    for (const [start, end] of ranges) this.#zeroColumns(storage, start, { width, rows, columns: end - start });
  }

  /** See WebGpuBackend.derived. */
  derived(
    source: WebGpuStorage,
    key: string,
    { dtype, count }: { dtype: DType; count: number },
    make: (into: WebGpuStorage) => void,
  ): WebGpuStorage {
    this.#touch(source);
    source.derived ??= new Map();
    let entry = source.derived.get(key);
    if (!entry) {
      let storage: WebGpuStorage | undefined;
      this.#commands.directly(() => (storage = this.allocate(dtype, count, key)));
      entry = { storage: storage!, version: -1 };
      source.derived.set(key, entry);
    }
    const { storage } = entry;
    const refresh = (): void => {
      if (entry.version === source.version) return;
      make(storage);
      if (!this.#commands.isGathering) entry.version = source.version;
    };
    const { capture } = this.#commands;
    if (capture?.isConstant(source)) {
      this.#commands.directly(refresh);
      capture.refreshers.set(storage, refresh);
    } else refresh();
    return storage;
  }

  /** Runs `body` so that nothing that it says of contents stays. */
  dryRun<T>(body: () => T): T {
    this.#before = new Map();
    try {
      return body();
    } finally {
      for (const [storage, state] of this.#before) Object.assign(storage, state);
      this.#before = undefined;
    }
  }

  /** What a plan does before its commands: contents that were promised or derived since the last run. */
  prepare(capture: Capture): void {
    for (const storage of capture.used.keys()) this.writeZeros(storage);
    for (const refresh of capture.refreshers.values()) refresh();
  }

  /** What a plan does behind its commands. */
  conclude(capture: Capture): void {
    for (const [storage, isWritten] of capture.used) {
      if (!isWritten) continue;
      storage.mirror = undefined;
      storage.version++;
    }
  }

  /**
   * A storage from outside is met in a capture: what was promised before is kept before, once, not at each run of the
   * plan. In a dry run, what is known of it is put aside.
   */
  #touch(storage: WebGpuStorage): void {
    if (this.#before && !this.#before.has(storage)) this.#before.set(storage, contentState(storage));
    if (this.#commands.capture?.meets(storage)) this.#commands.directly(() => this.writeZeros(storage));
  }

  #zeroColumns(
    storage: WebGpuStorage,
    start: number,
    { width, rows, columns }: { width: number; rows: number; columns: number },
  ): void {
    const kernel = zeroColumns({ type: storage.dtype === "f16" ? "f16" : "u32" });
    const most = Math.max(1, Math.floor((this.#maxBindingBytes - 512) / (width * BYTES_PER_ELEMENT[storage.dtype])));
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      const place = { storage, offset: first * width + start, rowStride: width, rows: count, columns };
      const y = rangeOf(place, this.#maxBindingBytes, kernel.name, "y");
      this.#commands.run(
        kernel,
        [y],
        { rows: count, columns },
        groupsFor(count * columns, COPY_WORKGROUP),
        kernel.name,
      );
    }
  }
}
