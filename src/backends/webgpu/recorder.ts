// Commands on their way to the GPU: one encoder and one compute pass for many dispatches, submitted now and then.

/** A dispatch, ready to be encoded, and encoded again by plans. */
export interface DispatchCommand {
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly slot: number;
  readonly groups: readonly [number, number, number];
}

/** What a plan replays: dispatches, copies, fills with zeros. */
export type Command =
  | DispatchCommand
  | { readonly copy: { from: GPUBuffer; fromByte: number; to: GPUBuffer; toByte: number; bytes: number } }
  | { readonly zero: { buffer: GPUBuffer; byte: number; bytes: number } };

/**
 * Dispatches in one submission. The first behind a pause is small, so that an idle GPU begins soon; each that follows is
 * twice as large, which hides its cost.
 */
const FIRST_DISPATCHES = 32;
const MOST_DISPATCHES = 512;

/** Time stamps around a pass; see profile.ts. */
export interface PassClock {
  /** For the pass that begins now with this label; undefined when there are no stamps left. */
  next(label: string): GPUComputePassTimestampWrites | undefined;
  /** Whether every dispatch gets a pass of its own. */
  readonly isFine: boolean;
}

export class Recorder {
  readonly #device: GPUDevice;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  #count = 0;
  #most = FIRST_DISPATCHES;
  clock: PassClock | undefined;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Whether anything waits for submission. */
  get isPending(): boolean {
    return this.#encoder !== undefined;
  }

  encode(command: Command): void {
    if ("pipeline" in command) this.#dispatch(command);
    else if ("copy" in command) {
      const { from, fromByte, to, toByte, bytes } = command.copy;
      this.#between().copyBufferToBuffer(from, fromByte, to, toByte, bytes);
    } else this.#between().clearBuffer(command.zero.buffer, command.zero.byte, command.zero.bytes);
  }

  /** Sends what was encoded. Somebody wants its results: what comes next begins small again. */
  submit(): void {
    this.#most = FIRST_DISPATCHES;
    this.#send();
  }

  /** Begins a new pass with the next dispatch, so that a clock's stamps stand where they belong. */
  cut(): void {
    this.#endPass();
  }

  #dispatch(command: DispatchCommand): void {
    if (this.clock?.isFine) this.#endPass();
    const pass = (this.#pass ??= this.#beginPass(command.label));
    if (this.#pipeline !== command.pipeline) {
      pass.setPipeline(command.pipeline);
      this.#pipeline = command.pipeline;
    }
    pass.setBindGroup(0, command.group, [command.slot]);
    pass.dispatchWorkgroups(...command.groups);
    if (++this.#count < this.#most || this.clock) return;
    this.#most = Math.min(2 * this.#most, MOST_DISPATCHES);
    this.#send();
  }

  #send(): void {
    if (!this.#encoder) return;
    this.#endPass();
    const commands = this.#encoder.finish();
    this.#encoder = undefined;
    this.#count = 0;
    this.#device.queue.submit([commands]);
  }

  #beginPass(label: string): GPUComputePassEncoder {
    this.#encoder ??= this.#device.createCommandEncoder({ label: "mamba.ts" });
    const timestampWrites = this.clock?.next(label);
    return this.#encoder.beginComputePass(timestampWrites ? { label, timestampWrites } : { label });
  }

  /** The encoder, outside of a pass. */
  #between(): GPUCommandEncoder {
    this.#endPass();
    return (this.#encoder ??= this.#device.createCommandEncoder({ label: "mamba.ts" }));
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#pipeline = undefined;
  }
}
