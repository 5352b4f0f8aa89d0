// adamwStep: one step of AdamW on one parameter, in place; and scaleInPlace.
// Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", Alg. 2, in PyTorch's order (torch.optim.AdamW).
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { BackendError, ConfigError, DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export interface AdamWTensors {
  /** Written. */
  readonly parameter: Tensor;
  readonly grad: Tensor;
  /** Running mean of the gradient, zeros before the first step. Written. */
  readonly m: Tensor;
  /** Running mean of its square, zeros before the first step. Written. */
  readonly v: Tensor;
}

export interface AdamWOptions {
  readonly learningRate: number;
  /** Number of this step, from 1. */
  readonly step: number;
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.95, the Mamba recipe's; PyTorch's own is 0.999. */
  readonly beta2?: number;
  /** Default 1e-8. */
  readonly eps?: number;
  /** Decoupled: the parameter shrinks by learningRate · weightDecay. Default 0.1; 0 for A_log, D, biases and norms. */
  readonly weightDecay?: number;
  /** What the gradient is multiplied by first (clipping, averaging). Default 1. */
  readonly gradScale?: number;
}

/**
 * With g = gradScale · grad: p -= learningRate · weightDecay · p; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²;
 * p -= learningRate · (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps).
 * All four tensors have one shape, closed-up rows. Whoever owns the Parameter calls its `markChanged` afterwards.
 * @throws ShapeError, DTypeError, BackendError, ConfigError (step)
 */
export function adamwStep(tensors: AdamWTensors, options: AdamWOptions): void {
  const { parameter } = tensors;
  for (const [name, tensor] of Object.entries(tensors) as [keyof AdamWTensors, Tensor][]) {
    if (!isSameShape(tensor.shape, parameter.shape) || !tensor.isContiguous)
      throw new ShapeError(
        `adamwStep: ${name} must be ${formatShape(parameter.shape)} with closed-up rows, got ${formatShape(tensor.shape)}, rows ${tensor.rowStride} apart.`,
      );
    if (tensor.dtype !== "f32" || tensor.format !== "rows")
      throw new DTypeError(`adamwStep: ${name} must be plain f32, got ${tensor.dtype} in ${tensor.format}.`);
    if (tensor.backend !== parameter.backend)
      throw new BackendError(`adamwStep: ${name} is on another device than the parameter.`);
  }
  if (!(Number.isInteger(options.step) && options.step >= 1))
    throw new ConfigError(`adamwStep: step must be a whole number from 1, got ${options.step}.`);
  const { backend } = parameter;
  const { beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weightDecay = 0.1, gradScale = 1 } = options;
  const full = { ...options, beta1, beta2, eps, weightDecay, gradScale };
  if (backend.name === "wasm") wasm.adamwStep(tensors, full, backend as WasmBackend);
  else if (backend.name === "webgpu") webgpu.adamwStep(tensors, full, backend as WebGpuBackend);
  else reference.adamwStep(tensors, full);
}

/** x *= factor, in place; x may be a view of columns. Not recorded by a tape. */
export function scaleInPlace(x: Tensor, factor: number): void {
  if (x.dtype !== "f32" || x.format !== "rows")
    throw new DTypeError(`scaleInPlace: x must be plain f32, got ${x.dtype} in ${x.format}.`);
  if (x.backend.name === "wasm") wasm.scaleInPlace(x, factor, x.backend as WasmBackend);
  else if (x.backend.name === "webgpu") webgpu.scaleInPlace(x, factor, x.backend as WebGpuBackend);
  else reference.scaleInPlace(x, factor);
}
