// The CPU backend: SIMD kernels in WASM, on all cores where threads may share memory. In Node and in a browser's worker.
import type { DType, HostArray } from "../../core/dtype.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import { BackendError, DTypeError } from "../../core/errors.ts";
import type { Backend, MemoryAccount, Plan, Storage } from "../backend.ts";
import { Allocator } from "./allocator.ts";
import type { EngineOptions, WasmBuild } from "./engine.ts";
import { COMMAND_BYTES, WasmEngine } from "./engine.ts";

export type { EngineOptions, WasmBuild } from "./engine.ts";

/** A piece of the WASM memory: `pointer` is its byte address. */
export interface WasmStorage extends Storage {
  readonly pointer: number;
}

/** A kernel's table index and its arguments. */
interface Command {
  readonly kernel: number;
  readonly args: readonly number[];
}

/** Below this a thread clears memory sooner than it can share the work. */
const SERIAL_BYTES = 1 << 16;

const bits = new DataView(new ArrayBuffer(4));

/** The 32-bit pattern of a float32, to pass it among the integer arguments of a kernel. */
export function floatBits(value: number): number {
  bits.setFloat32(0, value);
  return bits.getInt32(0);
}

/** Tensors in one WASM memory, at most 4 GiB, and kernels over it. */
export class WasmBackend implements Backend {
  readonly name = "wasm" as const;
  readonly threads: number;
  readonly build: WasmBuild;
  readonly note: string | undefined;
  readonly #engine: WasmEngine;
  readonly #allocator: Allocator;
  #commands: Command[] | undefined;
  #deferred: number[] = [];

  private constructor(engine: WasmEngine) {
    this.#engine = engine;
    this.threads = engine.threads;
    this.build = engine.build;
    this.note = engine.note;
    this.#allocator = new Allocator(engine.firstFreeAddress, (end) => engine.ensure(end));
  }

  static async create(options: EngineOptions = {}): Promise<WasmBackend> {
    return new WasmBackend(await WasmEngine.create(options));
  }

  allocate(dtype: DType, count: number): WasmStorage {
    if (dtype === "f16")
      throw new DTypeError("wasm: there is no f16 here; use f32 or int8 weights, or --device webgpu.");
    return { dtype, count, pointer: this.#allocator.allocate(count * BYTES_PER_ELEMENT[dtype]) };
  }

  release(storage: Storage): void {
    const { pointer } = storage as WasmStorage;
    if (this.#commands) this.#deferred.push(pointer);
    else this.#allocator.free(pointer);
  }

  write(storage: Storage, data: HostArray, offset = 0): void {
    if (offset + data.length > storage.count)
      throw new BackendError(
        `wasm: ${data.length} elements at ${offset} do not fit into a tensor of ${storage.count}.`,
      );
    this.view(storage).set(data, offset);
  }

  copy(from: Storage, fromOffset: number, to: Storage, toOffset: number, count: number): void {
    this.view(to).set(this.view(from).subarray(fromOffset, fromOffset + count), toOffset);
  }

  async read(storage: Storage, offset: number, count: number): Promise<HostArray> {
    return this.readNow(storage, offset, count);
  }

  async readInto(storage: Storage, offset: number, target: Float32Array): Promise<void> {
    target.set(this.view(storage).subarray(offset, offset + target.length));
  }

  readNow(storage: Storage, offset: number, count: number): HostArray {
    return this.view(storage).slice(offset, offset + count);
  }

  peek(storage: Storage): HostArray {
    return this.view(storage);
  }

  /** The elements of a storage, in place. Void after the next allocation. */
  view(storage: Storage): Float32Array | Int32Array | Int8Array {
    const { pointer } = storage as WasmStorage;
    const { buffer } = this.#engine;
    if (storage.dtype === "f32") return new Float32Array(buffer, pointer, storage.count);
    if (storage.dtype === "i32") return new Int32Array(buffer, pointer, storage.count);
    return new Int8Array(buffer, pointer, storage.count);
  }

  /**
   * Runs a kernel (kernels/assembly) on 32-bit arguments: addresses, sizes, and floats through {@link floatBits}.
   * @param serial run it on the calling thread alone, because sharing would cost more than it saves.
   */
  dispatch(kernel: string, args: readonly number[], serial = false): void {
    const index = this.#engine.kernel(kernel, serial);
    if (this.#commands) this.#commands.push({ kernel: index, args });
    else this.#engine.dispatch(index, args);
  }

  /**
   * Records the kernels that `body` dispatches, without running them, as a plan that replays them in one call: no
   * JavaScript between two kernels. Tensors made inside `body` keep their memory until the plan is disposed.
   */
  capture(body: () => void): Plan {
    if (this.#commands) throw new BackendError("wasm: a capture cannot begin inside another.");
    const commands: Command[] = [];
    this.#commands = commands;
    this.#deferred = [];
    try {
      body();
    } finally {
      this.#commands = undefined;
    }
    const owned = this.#deferred;
    const program = this.#allocator.allocate(Math.max(1, commands.length) * COMMAND_BYTES);
    commands.forEach(({ kernel, args }, i) => this.#engine.writeCommand(program + i * COMMAND_BYTES, kernel, args));
    return {
      run: () => this.#engine.run(program, commands.length),
      dispose: () => [program, ...owned].forEach((pointer) => this.#allocator.free(pointer)),
    };
  }

  clear(storage: Storage): void {
    const { pointer, count, dtype } = storage as WasmStorage;
    const bytes = count * BYTES_PER_ELEMENT[dtype];
    this.dispatch("clear", [pointer, bytes], bytes < SERIAL_BYTES);
  }

  memory(): MemoryAccount {
    return { liveBytes: this.#allocator.liveBytes, peakBytes: this.#allocator.peakBytes };
  }

  resetPeak(): void {
    this.#allocator.resetPeak();
  }

  dispose(): void {
    this.#engine.dispose();
  }
}
