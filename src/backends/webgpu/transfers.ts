// Elements between host and GPU, and between tensors: whole words by WebGPU's own commands, all else by a small kernel.
import type { HostArray } from "../../core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import { BackendError } from "../../core/errors.ts";
import type { Commands } from "./commands.ts";
import { COPY_WORKGROUP, copyElements } from "./copy-kernels.ts";
import { checkAliases, groupsFor, rangeOf, wholeOf } from "./dispatch.ts";
import { encodeElements } from "./encoding.ts";
import type { Memory } from "./memory.ts";
import type { BufferPool } from "./pool.ts";
import type { Staging } from "./staging.ts";
import type { Place, WebGpuStorage } from "./storage.ts";

export interface TransferParts {
  readonly device: GPUDevice;
  readonly commands: Commands;
  readonly memory: Memory;
  readonly pool: BufferPool;
  readonly staging: Staging;
  readonly maxBindingBytes: number;
}

export class Transfers {
  readonly #parts: TransferParts;

  constructor(parts: TransferParts) {
    this.#parts = parts;
  }

  /** The host writes elements. In a capture that is a part of the plan: each run writes them again. */
  write(target: WebGpuStorage, data: HostArray, offset: number): void {
    if (offset + data.length > target.count)
      throw new BackendError(
        `webgpu: ${data.length} elements at ${offset} do not fit into a tensor of ${target.count}.`,
      );
    if (data.length === 0) return;
    const isWhole = offset === 0 && data.length === target.count;
    const size = BYTES_PER_ELEMENT[target.dtype];
    if ((offset * size) % 4 !== 0 || (!isWhole && (data.length * size) % 4 !== 0))
      return this.#writeUnaligned(target, data, offset);
    this.#parts.memory.settle(rowOf(target, offset, data.length), "write");
    if (isWhole && target.dtype === "i32") target.mirror = data.slice();
    this.#writeBytes(target.buffer, offset * size, encodeElements(target.dtype, data));
  }

  copy(from: WebGpuStorage, fromOffset: number, to: WebGpuStorage, toOffset: number, count: number): void {
    if (count === 0) return;
    const size = BYTES_PER_ELEMENT[from.dtype];
    const [fromByte, toByte, bytes] = [fromOffset * size, toOffset * size, count * size];
    if (from.buffer === to.buffer) return this.#copyWithin(from, fromOffset, toOffset, count);
    if ([fromByte, toByte, bytes].some((byte) => byte % 4 !== 0))
      return this.#copyByKernel(from, fromOffset, to, toOffset, count);
    const { memory, commands } = this.#parts;
    memory.settle(rowOf(from, fromOffset, count), "read");
    memory.settle(rowOf(to, toOffset, count), "write");
    commands.encode({ copy: { from: from.buffer, fromByte, to: to.buffer, toByte, bytes } });
  }

  /** Bytes of elements [offset, offset + count), which begin at byte `skip` of what `use` gets. */
  async read<T>(
    source: WebGpuStorage,
    offset: number,
    count: number,
    use: (mapped: ArrayBuffer, skip: number) => T,
  ): Promise<T> {
    const { memory, commands, staging } = this.#parts;
    if (commands.capture ?? commands.isGathering)
      throw new BackendError("webgpu: nothing can be read inside a capture or compileAhead.");
    memory.settle(rowOf(source, offset, count), "read");
    commands.recorder.submit();
    const size = BYTES_PER_ELEMENT[source.dtype];
    const start = Math.floor((offset * size) / 4) * 4;
    const end = Math.ceil(((offset + count) * size) / 4) * 4;
    return staging.read(source.buffer, start, end - start, (mapped) => use(mapped, offset * size - start));
  }

  #writeBytes(buffer: GPUBuffer, byte: number, data: Uint8Array): void {
    const { device, commands, pool } = this.#parts;
    const { capture } = commands;
    if (commands.isGathering) return;
    if (capture) {
      const constant = pool.take(pool.sizeFor(data.length, "constant"), "constant");
      capture.constants.push(constant);
      device.queue.writeBuffer(constant, 0, data);
      commands.encode({ copy: { from: constant, fromByte: 0, to: buffer, toByte: byte, bytes: data.length } });
      return;
    }
    // The host writes at once, behind what was submitted; what only waits must not see it.
    commands.recorder.submit();
    device.queue.writeBuffer(buffer, byte, data);
  }

  #writeUnaligned(target: WebGpuStorage, data: HostArray, offset: number): void {
    this.#withPiece(target, data.length, (piece) => {
      this.write(piece, data, 0);
      this.#copyByKernel(piece, 0, target, offset, data.length);
    });
  }

  #copyWithin(storage: WebGpuStorage, fromOffset: number, toOffset: number, count: number): void {
    this.#withPiece(storage, count, (piece) => {
      this.copy(storage, fromOffset, piece, 0, count);
      this.copy(piece, 0, storage, toOffset, count);
    });
  }

  #withPiece(like: WebGpuStorage, count: number, body: (piece: WebGpuStorage) => void): void {
    const { memory } = this.#parts;
    const piece = memory.allocate(like.dtype, count, "copy");
    body(piece);
    memory.release(piece);
  }

  /** Element by element: for halves at odd places. */
  #copyByKernel(from: WebGpuStorage, fromOffset: number, to: WebGpuStorage, toOffset: number, count: number): void {
    if (from.dtype !== "f16") throw new BackendError("webgpu: packed bytes are copied in whole words only.");
    const { memory, commands, maxBindingBytes } = this.#parts;
    const kernel = copyElements({});
    const most = Math.floor((maxBindingBytes - 512) / BYTES_PER_ELEMENT.f16);
    for (let first = 0; first < count; first += most) {
      const length = Math.min(most, count - first);
      const places = [rowOf(from, fromOffset + first, length), rowOf(to, toOffset + first, length)];
      const ranges = places.map((place, i) => rangeOf(place, maxBindingBytes, kernel.name, kernel.buffers[i].name));
      checkAliases(kernel, ranges);
      places.forEach((place, i) => memory.settle(place, kernel.buffers[i].use));
      commands.run(kernel, ranges, { count: length }, groupsFor(length, COPY_WORKGROUP), kernel.name);
    }
  }
}

/** A run of elements; all of a storage is known as such. */
function rowOf(storage: WebGpuStorage, offset: number, count: number): Place {
  if (offset === 0 && count === storage.count) return wholeOf(storage);
  return { storage, offset, rowStride: count, rows: 1, columns: count };
}
