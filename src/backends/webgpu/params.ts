// Parameters of kernels: one uniform buffer of 256-byte slots. Equal parameters share a slot, so that a loop which
// repeats itself uploads nothing.
import type { KernelParam } from "./kernel.ts";

export const SLOT_BYTES = 256;
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

  /** Byte offset of a slot with these parameters. */
  slotFor(layout: readonly KernelParam[], values: Params): number {
    const words = this.#words;
    const count = layout.length;
    for (let i = 0; i < count; i++) {
      const { name, isFloat } = layout[i];
      const value = values[name];
      if (isFloat) this.#floats[i] = value;
      else words[i] = value;
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
