// Parameters of kernels: one uniform buffer of 256-byte slots. Equal parameters share a slot, so that a loop which
// repeats itself uploads nothing.
import { BackendError } from "../../core/errors.ts";
import type { Kernel } from "./kernel.ts";
import { MOST_PARAMS } from "./kernel.ts";

export const SLOT_BYTES: number = 4 * MOST_PARAMS;
const SLOTS = 4096;
const UNIFORM_AND_COPY = 0x40 | 0x8;

/** Parameters by name. */
export type Params = { readonly [name: string]: number };

/** A uniform buffer, and what its slots hold. */
export class ParamSlots {
  readonly buffer: GPUBuffer;
  readonly #device: GPUDevice;
  readonly #slots = new Map<string, number>();
  readonly #words = new Uint32Array(SLOT_BYTES / 4);
  readonly #floats = new Float32Array(this.#words.buffer);

  constructor(device: GPUDevice) {
    this.#device = device;
    this.buffer = device.createBuffer({ label: "params", size: SLOTS * SLOT_BYTES, usage: UNIFORM_AND_COPY });
  }

  get isFull(): boolean {
    return this.#slots.size === SLOTS;
  }

  /** Forgets all slots. Nothing that waits for submission may read them any more. */
  clear(): void {
    this.#slots.clear();
  }

  /**
   * Byte offset of a slot with a kernel's own parameters and the places of its tensors.
   * @throws BackendError for a parameter that is missing
   */
  slotFor(
    { name: kernel, params: own }: Pick<Kernel, "name" | "params">,
    params: Params,
    places: readonly { readonly at: number; readonly stride: number }[],
  ): number {
    const words = this.#words;
    let count = 0;
    for (const { name, isFloat } of own) {
      const value = params[name];
      if (value === undefined)
        throw new BackendError(`webgpu: ${kernel}: nothing was given for its parameter ${name}.`);
      if (isFloat) this.#floats[count++] = value;
      else words[count++] = value;
    }
    for (const { at, stride } of places) {
      words[count++] = at;
      words[count++] = stride;
    }
    const used = words.subarray(0, count);
    const key = used.join();
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      slot = this.#slots.size;
      this.#slots.set(key, slot);
      this.#device.queue.writeBuffer(this.buffer, slot * SLOT_BYTES, used);
    }
    return slot * SLOT_BYTES;
  }

  destroy(): void {
    this.buffer.destroy();
  }
}
