// What every device offers to the layers above: memory, transfer, and an account. It knows no mathematics.
import type { DType, HostArray } from "../core/dtype.ts";

/** Names of the devices that a kernel can be written for. */
export type DeviceName = "reference" | "wasm" | "webgpu";

/** A piece of device memory. What lies inside is the backend's own affair. */
export interface Storage {
  readonly dtype: DType;
  readonly count: number;
}

/** Bytes of tensors that live on a device now, and at the most so far (or since {@link Backend.resetPeak}). */
export interface MemoryAccount {
  readonly liveBytes: number;
  readonly peakBytes: number;
  /** Bytes that the device holds for the next tensors, beside those that live. 0 where that is not its way. */
  readonly pooledBytes?: number;
}

/** A recorded sequence of kernels over fixed memory, replayed by one call. */
export interface Plan {
  run(): void;
  /** Gives back the memory that the plan held. */
  dispose(): void;
}

/** A device: allocates, transfers, and runs kernels (each backend in its own way; see its class). */
export interface Backend {
  readonly name: DeviceName;
  /** Threads of the host that share the work of a kernel. */
  readonly threads: number;
  /** A fallback that was taken here and why, for people; undefined when there was none. */
  readonly note?: string | undefined;
  /** Memory for `count` elements, its contents undefined. Throws BackendError when there is not enough. */
  allocate(dtype: DType, count: number): Storage;
  /** Gives memory back. The storage must not be used afterwards. */
  release(storage: Storage): void;
  /** Copies host elements to a storage, from its element `offset` on. */
  write(storage: Storage, data: HostArray, offset?: number): void;
  /** Copies elements between two storages of one dtype. */
  copy(from: Storage, fromOffset: number, to: Storage, toOffset: number, count: number): void;
  /** Copies `count` elements from element `offset` on into a new host array of the device's own precision. */
  read(storage: Storage, offset: number, count: number): Promise<HostArray>;
  /** Copies elements from element `offset` on into a host array, as many as it holds: {@link read} without garbage. */
  readInto(storage: Storage, offset: number, target: Float32Array): Promise<void>;
  /** {@link read} at once. Throws BackendError on a device whose memory is not the host's (webgpu). */
  readNow(storage: Storage, offset: number, count: number): HostArray;
  /** All elements, if the host knows them without waiting; else undefined. */
  peek(storage: Storage): HostArray | undefined;
  /** Sets all elements of a storage to zero. */
  clear(storage: Storage): void;
  /** Records kernels for replay without JavaScript between them. Absent where replaying would gain nothing. */
  capture?(body: () => void): Plan;
  /** Compiles, side by side, every kernel that `body` would run, without running any. Absent where kernels are compiled before. */
  compileAhead?(body: () => void): Promise<void>;
  /** Whether the body of {@link compileAhead} is at work: what is made now has no contents and must not be kept. */
  readonly isCompilingAhead?: boolean;
  memory(): MemoryAccount;
  /** Begins the peak of {@link memory} anew, at what lives now. */
  resetPeak(): void;
  /** Ends its threads and forgets its memory. Tensors on it are void. */
  dispose(): void;
}
