// Updates: AdamW over all parameters of a model, with clipping by the norm of all gradients. What a step depends on (the
// norm, whether it is finite, the loss scale) stays where the device has it; a GPU is never waited for.
import type { Backend } from "../../backends/backend.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { HostUpdates } from "./host-updates.ts";
import type { AdamWTensors } from "./index.ts";
import { WebGpuUpdates } from "./webgpu-updates.ts";

/** A parameter with its gradient and means, and how much of it decays. */
export interface UpdateItem {
  readonly tensors: AdamWTensors;
  readonly weightDecay: number;
}

/** What is the same for all parameters of an update. */
export interface UpdateOptions {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Largest norm of all gradients together; Infinity for none. */
  readonly clip: number;
}

/** What of all updates so far decides the next one, beside the means. */
export interface UpdateState {
  /** Updates made. */
  readonly steps: number;
  /** What the next loss must be multiplied by. 1 without scaling. */
  readonly lossScale: number;
  /** Updates since the scale last changed. */
  readonly goodSteps: number;
}

/** What the last update found. */
export interface UpdateReport extends UpdateState {
  /** Norm of all gradients together, without the loss scale, before clipping. */
  readonly norm: number;
  /** Whether all gradients were finite; if not, nothing was updated. */
  readonly isFinite: boolean;
}

/**
 * How the factor of the loss is found that keeps float16 gradients in range: it begins at `initial`, is halved when a
 * gradient overflows (that update is left out), and doubled after `growthSteps` updates without one.
 */
export interface LossScaling {
  /** Default 65536. */
  readonly initial?: number;
  /** Default 1000. */
  readonly growthSteps?: number;
}

export interface Updates {
  /** The factor of the next loss, a scalar on the device; undefined where losses are not scaled. */
  readonly lossScale: Tensor | undefined;
  /** Updates all parameters, unless some gradient is not finite. */
  run(items: readonly UpdateItem[], options: UpdateOptions): void;
  /** What the last update found, of those queued when this is called. */
  report(): Promise<UpdateReport>;
  /** Continues from a state. */
  restore(state: UpdateState): void;
  dispose(): void;
}

/** Updates of parameters on a device. Losses are scaled only on webgpu, where float16 is. */
export function createUpdates(backend: Backend, scaling?: LossScaling): Updates {
  return backend.name === "webgpu" ? new WebGpuUpdates(backend as WebGpuBackend, scaling) : new HostUpdates();
}
