// Device memory: buffers in sizes of a few classes, kept for the next tensor of that class.
import type { MemoryAccount } from "../backend.ts";

const STORAGE_AND_COPY = 0x80 | 0x8 | 0x4;
/** Classes an octave: at most an eighth of a buffer is wasted. */
const CLASSES_AN_OCTAVE = 8;
const LEAST_BYTES = 256;

/** Buffers by size class. Work on a device runs in the order of submission, so a buffer may be used again at once. */
export class BufferPool {
  readonly #device: GPUDevice;
  readonly #free = new Map<number, GPUBuffer[]>();
  #liveBytes = 0;
  #peakBytes = 0;
  #pooledBytes = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** A buffer of at least `bytes`; `size` is what it really has. */
  take(bytes: number, label: string): GPUBuffer {
    const size = classOf(bytes);
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    const kept = this.#free.get(size)?.pop();
    if (kept) {
      this.#pooledBytes -= size;
      return kept;
    }
    return this.#device.createBuffer({ label, size, usage: STORAGE_AND_COPY });
  }

  give(buffer: GPUBuffer): void {
    this.#liveBytes -= buffer.size;
    this.#pooledBytes += buffer.size;
    const kept = this.#free.get(buffer.size);
    if (kept) kept.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
  }

  /** Gives kept buffers back to the system. */
  trim(): void {
    for (const kept of this.#free.values()) for (const buffer of kept) buffer.destroy();
    this.#free.clear();
    this.#pooledBytes = 0;
  }

  account(): MemoryAccount {
    return { liveBytes: this.#liveBytes, peakBytes: this.#peakBytes, pooledBytes: this.#pooledBytes };
  }
}

/** The smallest class that holds `bytes`. */
export function classOf(bytes: number): number {
  if (bytes <= LEAST_BYTES) return LEAST_BYTES;
  const step = Math.max(LEAST_BYTES, 2 ** Math.floor(Math.log2(bytes)) / CLASSES_AN_OCTAVE);
  return Math.ceil(bytes / step) * step;
}
