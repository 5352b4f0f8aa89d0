// Capturing: commands gathered for replay, and what must be known of the memory that they use.
import type { ParamSlots } from "./params.ts";
import type { Command } from "./recorder.ts";
import type { WebGpuStorage } from "./storage.ts";

/** Memory in a capture: all that `body` of a capture used, and what the plan needs of it at each run. */
export class Capture {
  readonly commands: Command[] = [];
  readonly params: ParamSlots[] = [];
  /** Storages that the plan uses and that live on: whether it writes them. */
  readonly used: Map<WebGpuStorage, boolean> = new Map();
  /** Brings what is derived from storages outside up to date before a run, by the storage that it lies in. */
  readonly refreshers: Map<WebGpuStorage, () => void> = new Map();
  /** Buffers with what the host wrote: the plan copies them at each run. */
  readonly constants: GPUBuffer[] = [];
  /** Storages that were made inside. */
  readonly #own = new Set<WebGpuStorage>();
  /** Buffers that were released inside, for the next tensors inside; never for others, as the plan writes them again. */
  readonly #free = new Map<number, GPUBuffer[]>();

  /** A buffer of just this size that the plan is done with at this point. */
  takeFree(size: number): GPUBuffer | undefined {
    return this.#free.get(size)?.pop();
  }

  addOwn(storage: WebGpuStorage): void {
    this.#own.add(storage);
    this.used.set(storage, false);
  }

  /** Keeps the buffer of a storage that is released inside. */
  keep(storage: WebGpuStorage): void {
    this.#own.delete(storage);
    this.used.delete(storage);
    const { buffer } = storage;
    const kept = this.#free.get(buffer.size);
    if (kept) kept.push(buffer);
    else this.#free.set(buffer.size, [buffer]);
  }

  /** Notes that a storage is used. @returns whether it comes from outside and is seen for the first time */
  meets(storage: WebGpuStorage): boolean {
    if (this.used.has(storage)) return false;
    this.used.set(storage, false);
    return true;
  }

  noteWritten(storage: WebGpuStorage): void {
    this.used.set(storage, true);
  }

  /** Whether its contents are the same before and while the plan runs. */
  isConstant(storage: WebGpuStorage): boolean {
    return !this.#own.has(storage) && this.used.get(storage) !== true;
  }

  /** Ends it. @returns the buffers that go back to the others */
  close(): readonly GPUBuffer[] {
    const buffers = [...this.#free.values(), this.constants.splice(0)].flat();
    this.#free.clear();
    this.commands.length = 0;
    for (const params of this.params.splice(0)) params.destroy();
    return buffers;
  }
}
