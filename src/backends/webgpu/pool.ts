// Device memory: buffers in sizes of a few classes, kept for the next tensor of that class.
import { BackendError } from "../../core/errors.ts";
import type { MemoryAccount } from "../backend.ts";
import type { Failures } from "./failures.ts";
import { mebibytes, memoryError } from "./failures.ts";

const STORAGE_AND_COPY = 0x80 | 0x8 | 0x4;
/** Classes an octave: at most an eighth of a buffer is wasted. */
const CLASSES_AN_OCTAVE = 8;
const LEAST_BYTES = 256;
/**
 * What is held in all, in tensors and kept, is at most this many times what tensors held at their peak, and so much more:
 * work of many sizes, each kept, would fill the device, and what is destroyed then comes back too late.
 */
const MOST_HELD = 2;
const FREELY_HELD = 2 ** 30;

export interface PoolOptions {
  /** Bytes to hold at the most, in tensors and kept for the next ones. Default: until the device refuses. */
  readonly mostBytes?: number | undefined;
  /** Whether errors arrive within the call that makes them, as in Node; in browsers they come later. */
  readonly reportsAtOnce: boolean;
  /** Called before kept buffers are destroyed: nothing that waits may use them. */
  beforeTrim(): void;
}

/** Buffers by size class. Work on a device runs in the order of submission, so a buffer may be used again at once. */
export class BufferPool {
  readonly #device: GPUDevice;
  readonly #failures: Failures;
  readonly #options: PoolOptions;
  readonly #free = new Map<number, GPUBuffer[]>();
  /** Buffers that the device had no memory for. */
  readonly #void = new WeakSet<GPUBuffer>();
  #mostBytes: number;
  #liveBytes = 0;
  #peakBytes = 0;
  #pooledBytes = 0;

  constructor(device: GPUDevice, failures: Failures, options: PoolOptions) {
    this.#device = device;
    this.#failures = failures;
    this.#options = options;
    this.#mostBytes = options.mostBytes ?? Infinity;
  }

  /** Bytes of a buffer for this many. @throws BackendError when the device has no buffers of that size */
  sizeFor(bytes: number, label: string): number {
    const most = Math.floor(this.#device.limits.maxBufferSize / LEAST_BYTES) * LEAST_BYTES;
    if (bytes <= most) return Math.min(classOf(bytes), most);
    throw new BackendError(
      `webgpu: ${label ? `${label}: ` : ""}a tensor of ${mebibytes(bytes)} does not fit: a buffer of this device holds ${mebibytes(most)} at the most. Use a smaller batch or length.`,
    );
  }

  /**
   * A buffer of a size of {@link sizeFor}. Kept buffers are given up before memory runs out.
   * @throws BackendError when there is not enough: at once, or with the next check where the device tells later
   */
  take(size: number, label: string): GPUBuffer {
    const buffer = this.#free.get(size)?.pop();
    if (buffer) this.#pooledBytes -= size;
    const taken = buffer ?? this.#make(size, label);
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return taken;
  }

  give(buffer: GPUBuffer): void {
    const { size } = buffer;
    this.#liveBytes -= size;
    if (this.#void.has(buffer)) return;
    this.#pooledBytes += size;
    const kept = this.#free.get(size);
    if (kept) kept.push(buffer);
    else this.#free.set(size, [buffer]);
    if (this.#liveBytes + this.#pooledBytes > MOST_HELD * this.#peakBytes + FREELY_HELD) this.trim();
  }

  /** Whether there was no memory for this buffer. */
  isVoid(buffer: GPUBuffer): boolean {
    return this.#void.has(buffer);
  }

  /** Gives kept buffers back to the system. */
  trim(): void {
    this.#options.beforeTrim();
    for (const kept of this.#free.values()) for (const buffer of kept) buffer.destroy();
    this.#free.clear();
    this.#pooledBytes = 0;
  }

  account(): MemoryAccount {
    return { liveBytes: this.#liveBytes, peakBytes: this.#peakBytes, pooledBytes: this.#pooledBytes };
  }

  resetPeak(): void {
    this.#peakBytes = this.#liveBytes;
  }

  #make(size: number, label: string): GPUBuffer {
    if (this.#liveBytes + this.#pooledBytes + size > this.#mostBytes && this.#pooledBytes > 0) this.trim();
    if (this.#liveBytes + size > (this.#options.mostBytes ?? Infinity)) throw this.#fullError(size, label);
    const create = (): GPUBuffer => this.#device.createBuffer({ label, size, usage: STORAGE_AND_COPY });
    if (this.#options.reportsAtOnce) return this.#makeOrTrim(size, label, create);
    const buffer = this.#failures.watch(this.#device, "out-of-memory", create, () => {
      this.#void.add(buffer);
      this.#failures.add(this.#fullError(size, label));
      this.#learn(this.#liveBytes + this.#pooledBytes - size);
    });
    return buffer;
  }

  /** Tries again without the kept buffers where the device refuses. */
  #makeOrTrim(size: number, label: string, create: () => GPUBuffer): GPUBuffer {
    const before = this.#failures.count;
    const first = create();
    if (this.#failures.count === before) return first;
    this.#failures.forgetSince(before);
    if (this.#pooledBytes > 0) {
      this.#learn(this.#liveBytes + this.#pooledBytes);
      const second = create();
      if (this.#failures.count === before) return second;
      this.#failures.forgetSince(before);
    }
    throw this.#fullError(size, label);
  }

  /** The device had no more than this: from now on kept buffers are given up before it is asked for more. */
  #learn(heldBytes: number): void {
    this.#mostBytes = Math.min(this.#mostBytes, heldBytes);
    this.trim();
  }

  #fullError(size: number, label: string): BackendError {
    const op = label ? `${label}: ` : "";
    return memoryError(
      `${op}there is no memory for ${mebibytes(size)} more on the device; its tensors hold ${mebibytes(this.#liveBytes)}`,
    );
  }
}

/** The smallest class that holds `bytes`. */
export function classOf(bytes: number): number {
  if (bytes <= LEAST_BYTES) return LEAST_BYTES;
  const step = Math.max(LEAST_BYTES, 2 ** Math.floor(Math.log2(bytes)) / CLASSES_AN_OCTAVE);
  return Math.ceil(bytes / step) * step;
}
