// Buffers through which the host reads a device's memory.
const MAP_READ = 0x1;
const MAP_READ_AND_COPY = 0x1 | 0x8;
const LEAST_BYTES = 1 << 12;
/** Larger ones are not kept. */
const MOST_KEPT_BYTES = 1 << 24;
const MOST_KEPT = 16;

/** Buffers that the host maps to read, kept for the next time. */
export class Staging {
  readonly #device: GPUDevice;
  readonly #free: GPUBuffer[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /**
   * Copies bytes of a buffer (multiples of 4) behind everything submitted so far, and hands them to `use` when they are
   * here. Several may be under way at once; each resolves in its turn.
   */
  async read<T>(buffer: GPUBuffer, byte: number, bytes: number, use: (mapped: ArrayBuffer) => T): Promise<T> {
    const at = this.#free.findIndex(({ size }) => size >= bytes);
    const [staging = this.#make(bytes)] = at < 0 ? [] : this.#free.splice(at, 1);
    const encoder = this.#device.createCommandEncoder({ label: "read" });
    encoder.copyBufferToBuffer(buffer, byte, staging, 0, bytes);
    this.#device.queue.submit([encoder.finish()]);
    try {
      await staging.mapAsync(MAP_READ, 0, bytes);
    } catch (error) {
      staging.destroy();
      throw error;
    }
    const result = use(staging.getMappedRange(0, bytes));
    staging.unmap();
    if (staging.size <= MOST_KEPT_BYTES && this.#free.length < MOST_KEPT) this.#free.push(staging);
    else staging.destroy();
    return result;
  }

  destroy(): void {
    for (const buffer of this.#free) buffer.destroy();
    this.#free.length = 0;
  }

  #make(bytes: number): GPUBuffer {
    const size = bytes > MOST_KEPT_BYTES ? bytes : Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
    return this.#device.createBuffer({ label: "read", size, usage: MAP_READ_AND_COPY });
  }
}
