// Commands on their way: run at once, kept for a plan, or only looked at to compile their kernels ahead.
import { BackendError } from "../../core/errors.ts";
import type { Failures } from "./failures.ts";
import type { Kernel } from "./kernel.ts";
import { ParamSlots } from "./params.ts";
import type { Params } from "./params.ts";
import type { BoundRange } from "./pipelines.ts";
import { Pipelines } from "./pipelines.ts";
import type { Capture } from "./plan.ts";
import type { Command } from "./recorder.ts";
import { Recorder } from "./recorder.ts";

/** Workgroups: x, and if need be y and z. */
export type Groups = readonly [x: number, y?: number, z?: number];

export class Commands {
  readonly recorder: Recorder;
  readonly pipelines: Pipelines;
  readonly #device: GPUDevice;
  readonly #params: ParamSlots;
  #capture: Capture | undefined;
  /** While kernels are only gathered, to be compiled ahead. */
  #gathered: Set<Kernel> | undefined;

  constructor(device: GPUDevice, failures: Failures) {
    this.#device = device;
    this.recorder = new Recorder(device);
    this.pipelines = new Pipelines(device, failures);
    this.#params = new ParamSlots(device);
  }

  /** What is being captured now. */
  get capture(): Capture | undefined {
    return this.#capture;
  }

  /** Whether nothing is run and nothing written, because kernels are only gathered. */
  get isGathering(): boolean {
    return this.#gathered !== undefined;
  }

  encode(command: Command): void {
    if (this.#capture) this.#capture.commands.push(command);
    else if (!this.#gathered) this.recorder.encode(command);
  }

  /** Queues a kernel over parts of buffers. */
  run(kernel: Kernel, ranges: readonly BoundRange[], params: Params, groups: Groups, label: string): void {
    if (this.#gathered) {
      this.#gathered.add(kernel);
      return;
    }
    const [x, y = 1, z = 1] = groups;
    if (x * y * z === 0) return;
    const { pipelines } = this;
    const compiled = pipelines.pipelineOf(kernel);
    const slots = this.#slots();
    const slot = slots.slotFor(kernel, params, ranges);
    const group = pipelines.groupOf(compiled, slots.buffer, ranges);
    this.encode({ label, pipeline: compiled.pipeline, group, slot, groups: [x, y, z] });
  }

  /** The kernels that `body` runs, without running them. */
  gather(body: () => void): Set<Kernel> {
    this.#checkFree("compileAhead");
    const gathered = new Set<Kernel>();
    this.#gathered = gathered;
    try {
      body();
    } finally {
      this.#gathered = undefined;
    }
    return gathered;
  }

  /** Into `capture` goes what `body` queues, without being run. */
  captureInto(capture: Capture, body: () => void): void {
    this.#checkFree("capture");
    this.#capture = capture;
    try {
      body();
    } finally {
      this.#capture = undefined;
    }
  }

  /** Runs at once what `body` queues, though a capture is under way. */
  directly(body: () => void): void {
    const outer = this.#capture;
    this.#capture = undefined;
    try {
      body();
    } finally {
      this.#capture = outer;
    }
  }

  destroy(): void {
    this.recorder.submit();
    this.pipelines.forgetGroups();
    this.#params.destroy();
  }

  /** Room for parameters: of a capture as much as it takes; else the slots are used anew when they are full. */
  #slots(): ParamSlots {
    if (this.#capture) {
      const { params } = this.#capture;
      if (params.at(-1)?.isFull ?? true) params.push(new ParamSlots(this.#device));
      return params.at(-1)!;
    }
    if (this.#params.isFull) {
      this.recorder.submit();
      this.#params.clear();
    }
    return this.#params;
  }

  #checkFree(what: string): void {
    if (this.#capture ?? this.#gathered)
      throw new BackendError(`webgpu: ${what} cannot begin inside a capture or compileAhead.`);
  }
}
