// Elements between host and GPU: their bytes there, and reading back through buffers that the host can map.
import type { DType, HostArray } from "../../core/dtype.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../core/half.ts";

const MAP_READ = 0x1;
const MAP_READ_AND_COPY = 0x1 | 0x8;
const LEAST_BYTES = 1 << 12;

/** Host elements as the bytes that a device has for this dtype, padded to whole words. */
export function encodeElements(dtype: DType, data: HostArray): Uint8Array {
  if (dtype === "f16") {
    const halves = new Uint16Array(data.length + (data.length % 2));
    float32ToFloat16(data instanceof Float32Array ? data : Float32Array.from(data), halves);
    return new Uint8Array(halves.buffer);
  }
  const elements = convert(dtype, data);
  const bytes = new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
  if (bytes.length % 4 === 0) return bytes;
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  padded.set(bytes);
  return padded;
}

function convert(dtype: "f32" | "i32" | "i8", data: HostArray): HostArray {
  if (dtype === "f32") return data instanceof Float32Array ? data : Float32Array.from(data);
  if (dtype === "i32") return data instanceof Int32Array ? data : Int32Array.from(data);
  return data instanceof Int8Array ? data : Int8Array.from(data);
}

/** The elements that bytes of a device hold, in a new array. */
export function decodeElements(dtype: DType, bytes: ArrayBuffer, byteOffset: number, count: number): HostArray {
  if (dtype === "f16") {
    const values = new Float32Array(count);
    float16ToFloat32(new Uint16Array(bytes, byteOffset, count), values);
    return values;
  }
  const View = dtype === "f32" ? Float32Array : dtype === "i32" ? Int32Array : Int8Array;
  return new View(bytes, byteOffset, count).slice();
}

/** Buffers that the host maps to read, kept for the next time. */
export class Staging {
  readonly #device: GPUDevice;
  readonly #free: GPUBuffer[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /**
   * Copies bytes of a buffer (multiples of 4) behind everything submitted so far, and hands them to `use` when they are here. Several may be
   * under way at once; each resolves in its turn.
   */
  async read<T>(buffer: GPUBuffer, byte: number, bytes: number, use: (mapped: ArrayBuffer) => T): Promise<T> {
    const at = this.#free.findIndex(({ size }) => size >= bytes);
    const [staging = this.#make(bytes)] = at < 0 ? [] : this.#free.splice(at, 1);
    const encoder = this.#device.createCommandEncoder({ label: "read" });
    encoder.copyBufferToBuffer(buffer, byte, staging, 0, bytes);
    this.#device.queue.submit([encoder.finish()]);
    await staging.mapAsync(MAP_READ, 0, bytes);
    const result = use(staging.getMappedRange(0, bytes));
    staging.unmap();
    this.#free.push(staging);
    return result;
  }

  destroy(): void {
    for (const buffer of this.#free) buffer.destroy();
    this.#free.length = 0;
  }

  #make(bytes: number): GPUBuffer {
    const size = Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
    return this.#device.createBuffer({ label: "read", size, usage: MAP_READ_AND_COPY });
  }
}
