// The GPU backend: tensors in WebGPU buffers, kernels in WGSL; in browsers, and in Node through Dawn. It knows buffers,
// pipelines and submissions, and no mathematics.
import type { DType, HostArray } from "../../core/dtype.ts";
import { BackendError } from "../../core/errors.ts";
import type { Backend, MemoryAccount, Plan, Storage } from "../backend.ts";
import type { GpuDescription, GpuFeature, GpuOptions, OpenedGpu } from "./adapter.ts";
import { openGpu } from "./adapter.ts";
import type { Groups } from "./commands.ts";
import { Commands } from "./commands.ts";
import { checkAliases, placeOf, rangeOf } from "./dispatch.ts";
import { decodeElements } from "./encoding.ts";
import { Failures } from "./failures.ts";
import type { Kernel } from "./kernel.ts";
import { Memory } from "./memory.ts";
import type { Params } from "./params.ts";
import { Capture } from "./plan.ts";
import { BufferPool } from "./pool.ts";
import type { Profile } from "./profile.ts";
import { profile } from "./profile.ts";
import { Staging } from "./staging.ts";
import type { Place, WebGpuStorage } from "./storage.ts";
import { Transfers } from "./transfers.ts";

export type { GpuDescription, GpuFeature, GpuOptions, MatrixShape } from "./adapter.ts";
export type { Groups } from "./commands.ts";
export { groupsFor } from "./dispatch.ts";
export type { Profile } from "./profile.ts";
export type { Place, WebGpuStorage } from "./storage.ts";
export { defineKernel } from "./kernel.ts";
export type { BufferUse, Kernel, KernelFamily, KernelSpec } from "./kernel.ts";

/** Tensors in GPU buffers, and kernels over them. Everything is queued; only {@link read} and {@link finish} wait. */
export class WebGpuBackend implements Backend {
  readonly name = "webgpu" as const;
  readonly threads = 1;
  readonly device: GPUDevice;
  readonly about: GpuDescription;
  /** Bytes of a tensor, or of a part of it, that one kernel can see at the most. */
  readonly maxBindingBytes: number;
  /** The op at work, for messages. */
  label = "";
  readonly #failures: Failures;
  readonly #pool: BufferPool;
  readonly #commands: Commands;
  readonly #memory: Memory;
  readonly #staging: Staging;
  readonly #transfers: Transfers;
  #isDisposed = false;

  private constructor({ device, about, reportsAtOnce }: OpenedGpu, options: GpuOptions) {
    const { maxBindingBytes = Infinity, maxMemoryBytes } = options;
    this.device = device;
    this.about = about;
    this.maxBindingBytes = Math.min(device.limits.maxStorageBufferBindingSize, maxBindingBytes);
    this.#failures = new Failures(device);
    this.#commands = new Commands(device, this.#failures);
    this.#pool = new BufferPool(device, this.#failures, {
      mostBytes: maxMemoryBytes,
      reportsAtOnce,
      beforeTrim: () => {
        this.#commands.recorder.submit();
        this.#commands.pipelines.forgetGroups();
      },
    });
    this.#memory = new Memory(this.#pool, this.#commands, this.maxBindingBytes);
    this.#staging = new Staging(device);
    this.#transfers = new Transfers({
      device,
      commands: this.#commands,
      memory: this.#memory,
      pool: this.#pool,
      staging: this.#staging,
      maxBindingBytes: this.maxBindingBytes,
    });
  }

  /** @throws BackendError when there is no adapter, or it lacks what is required */
  static async create(options: GpuOptions = {}): Promise<WebGpuBackend> {
    return new WebGpuBackend(await openGpu(options), options);
  }

  has(feature: GpuFeature): boolean {
    return this.about.features.has(feature);
  }

  /** Whether it can be used: it was neither lost nor disposed of. */
  get isOpen(): boolean {
    return !this.#failures.isEnded;
  }

  /** Resolves with the reason when the device is lost; then open a new one. Never for one that was disposed of. */
  get lost(): Promise<string> {
    return this.device.lost.then(({ message }) => (this.#isDisposed ? new Promise<string>(() => undefined) : message));
  }

  allocate(dtype: DType, count: number): WebGpuStorage {
    this.#failures.check();
    if (dtype === "f16" && !this.has("shader-f16"))
      throw new BackendError("webgpu: this device has no shader-f16. Use dtype f32 or int8, or another GPU.");
    return this.#memory.allocate(dtype, count, this.label);
  }

  release(storage: Storage): void {
    if (!this.#isDisposed) this.#memory.release(storage as WebGpuStorage);
  }

  write(storage: Storage, data: HostArray, offset = 0): void {
    this.#failures.check();
    this.#transfers.write(storage as WebGpuStorage, data, offset);
  }

  copy(from: Storage, fromOffset: number, to: Storage, toOffset: number, count: number): void {
    this.#failures.check();
    this.#transfers.copy(from as WebGpuStorage, fromOffset, to as WebGpuStorage, toOffset, count);
  }

  async read(storage: Storage, offset: number, count: number): Promise<HostArray> {
    const { dtype } = storage;
    if (count === 0) return decodeElements(dtype, new ArrayBuffer(0), 0, 0);
    return this.#read(storage, offset, count, (mapped, skip) => decodeElements(dtype, mapped, skip, count));
  }

  async readInto(storage: Storage, offset: number, target: Float32Array): Promise<void> {
    const { dtype } = storage;
    const count = target.length;
    if (count === 0) return;
    await this.#read(storage, offset, count, (mapped, skip) =>
      target.set(dtype === "f32" ? new Float32Array(mapped, skip, count) : decodeElements(dtype, mapped, skip, count)),
    );
  }

  readNow(storage: Storage, offset: number, count: number): HostArray {
    const { mirror } = storage as WebGpuStorage;
    if (mirror) return mirror.slice(offset, offset + count);
    throw new BackendError("webgpu: a GPU's memory cannot be read at once. Use `await tensor.read()`.");
  }

  /** What the host wrote, as long as no kernel wrote over it. Ids (i32) only. */
  peek(storage: Storage): HostArray | undefined {
    return (storage as WebGpuStorage).mirror;
  }

  /** Promises zeros: they are written when something reads them, and never where a kernel overwrites them first. */
  clear(storage: Storage): void {
    this.#memory.clear(storage as WebGpuStorage);
  }

  /** Whether there is anything to add to: false where all elements are zeros that nobody wrote, so that a kernel may overwrite. */
  hasContent(place: Place): boolean {
    return this.#memory.hasContent(place);
  }

  /**
   * Memory beside a storage for something that follows from its contents (a weight in float16), made by `make` when the
   * contents changed since the last call, and given back together with the storage. `make` may be called again later, by
   * plans.
   */
  derived(
    from: Storage,
    key: string,
    like: { dtype: DType; count: number },
    make: (into: WebGpuStorage) => void,
  ): WebGpuStorage {
    return this.#memory.derived(from as WebGpuStorage, key, like, make);
  }

  /**
   * Queues a kernel over tensors (or whole storages) by buffer name.
   * @param params values of the kernel's own parameters
   * @param groups workgroups, at most 65535 an axis: see {@link groupsFor}
   * @throws BackendError when a tensor is larger than a binding (split it by rows, see splitRows), is of another type than
   * the kernel's buffer, or is bound twice, once to be written; and for what failed earlier
   */
  dispatch(
    kernel: Kernel,
    buffers: { readonly [name: string]: Place | WebGpuStorage },
    params: Params,
    groups: Groups,
  ): void {
    this.#failures.check();
    const places = kernel.buffers.map((buffer) => placeOf(buffers[buffer.name], kernel, buffer));
    const ranges = kernel.buffers.map(({ name }, i) => rangeOf(places[i], this.maxBindingBytes, kernel.name, name));
    checkAliases(kernel, ranges);
    kernel.buffers.forEach(({ use }, i) => this.#memory.settle(places[i], use));
    const label = this.label ? `${this.label}: ${kernel.name}` : kernel.name;
    this.#commands.run(kernel, ranges, params, groups, label);
  }

  /**
   * Compiles, side by side, every kernel that `body` dispatches, without running any or changing contents. Tensors made
   * inside must be released as usual (scope).
   */
  async compileAhead(body: () => void): Promise<void> {
    this.#failures.check();
    const kernels = this.#memory.dryRun(() => this.#commands.gather(body));
    await this.#commands.pipelines.compileAhead(kernels);
  }

  get isCompilingAhead(): boolean {
    return this.#commands.isGathering;
  }

  /**
   * Records what `body` queues, without running it, as a plan. What the host writes inside is written at each run. Tensors
   * made inside keep their memory until the plan is disposed of; those from outside must live as long as it.
   */
  capture(body: () => void): Plan {
    this.#failures.check();
    const capture = new Capture();
    try {
      this.#commands.captureInto(capture, () => {
        body();
        for (const storage of capture.used.keys()) this.#memory.writeZeros(storage);
      });
    } catch (error) {
      this.#disposePlan(capture);
      throw error;
    }
    return {
      run: () => {
        this.#failures.check();
        this.#memory.prepare(capture);
        for (const command of capture.commands) this.#commands.encode(command);
        this.#memory.conclude(capture);
      },
      dispose: () => this.#disposePlan(capture),
    };
  }

  /** Sends what is queued to the GPU now, without waiting. */
  submit(): void {
    this.#commands.recorder.submit();
  }

  /** Resolves when everything queued so far is done. @throws BackendError for what failed on the way */
  async finish(): Promise<void> {
    await this.#failures.guard("waiting", () => {
      this.#commands.recorder.submit();
      return this.device.queue.onSubmittedWorkDone();
    });
  }

  /** GPU time of what `body` queues; see profile.ts. */
  async profile(body: () => void, options: { isFine?: boolean } = {}): Promise<Profile> {
    return this.#failures.guard("profiling", () => profile(this.device, this.#commands.recorder, body, options));
  }

  memory(): MemoryAccount {
    return this.#pool.account();
  }

  resetPeak(): void {
    this.#pool.resetPeak();
  }

  /** Gives memory that is kept for the next tensors back to the system. */
  trim(): void {
    this.#pool.trim();
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#failures.close(new BackendError("webgpu: this device was disposed of. Open a new one."));
    this.#pool.trim();
    this.#commands.destroy();
    this.#staging.destroy();
    this.device.destroy();
  }

  #read<T>(storage: Storage, offset: number, count: number, use: (mapped: ArrayBuffer, skip: number) => T): Promise<T> {
    return this.#failures.guard("reading back", () =>
      this.#transfers.read(storage as WebGpuStorage, offset, count, use),
    );
  }

  #disposePlan(capture: Capture): void {
    if (this.#isDisposed) return;
    this.#commands.recorder.submit();
    this.#commands.pipelines.forgetGroups();
    for (const buffer of capture.close()) this.#pool.give(buffer);
  }
}
