// The reference backend: plain typed arrays on the host, real numbers in float64. The oracle for all other backends.
import type { DType, HostArray } from "../../core/dtype.ts";
import { isReal } from "../../core/dtype.ts";
import type { Backend, MemoryAccount, Storage } from "../backend.ts";

/** A piece of host memory. Real elements (f32, f16) are held in float64, so that rounding never hides a wrong formula. */
export interface ReferenceStorage extends Storage {
  readonly data: Float64Array | Int32Array | Int8Array;
}

/** Plain loops in float64: slow, readable, the specification. */
export class ReferenceBackend implements Backend {
  readonly name = "reference" as const;
  readonly threads = 1;
  #liveBytes = 0;
  #peakBytes = 0;

  allocate(dtype: DType, count: number): ReferenceStorage {
    const data = isReal(dtype)
      ? new Float64Array(count)
      : dtype === "i32"
        ? new Int32Array(count)
        : new Int8Array(count);
    this.#liveBytes += data.byteLength;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return { dtype, count, data };
  }

  release(storage: Storage): void {
    this.#liveBytes -= (storage as ReferenceStorage).data.byteLength;
  }

  write(storage: Storage, data: HostArray, offset = 0): void {
    (storage as ReferenceStorage).data.set(data, offset);
  }

  copy(from: Storage, fromOffset: number, to: Storage, toOffset: number, count: number): void {
    const data = (from as ReferenceStorage).data.subarray(fromOffset, fromOffset + count);
    (to as ReferenceStorage).data.set(data, toOffset);
  }

  async read(storage: Storage, offset: number, count: number): Promise<HostArray> {
    return this.readNow(storage, offset, count);
  }

  async readInto(storage: Storage, offset: number, target: Float32Array): Promise<void> {
    target.set((storage as ReferenceStorage).data.subarray(offset, offset + target.length));
  }

  readNow(storage: Storage, offset: number, count: number): HostArray {
    return (storage as ReferenceStorage).data.slice(offset, offset + count);
  }

  peek(storage: Storage): HostArray {
    return (storage as ReferenceStorage).data;
  }

  clear(storage: Storage): void {
    (storage as ReferenceStorage).data.fill(0);
  }

  memory(): MemoryAccount {
    return { liveBytes: this.#liveBytes, peakBytes: this.#peakBytes };
  }

  resetPeak(): void {
    this.#peakBytes = this.#liveBytes;
  }

  dispose(): void {}
}
