// adamwStep and scaleInPlace on the reference backend.
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { AdamWOptions, AdamWTensors } from "./index.ts";

export function adamwStep(tensors: AdamWTensors, options: Required<AdamWOptions>): void {
  const { learningRate, step, beta1, beta2, eps, weightDecay, gradScale } = options;
  const { size } = tensors.parameter;
  const [p, g, m, v] = [tensors.parameter, tensors.grad, tensors.m, tensors.v].map((tensor) =>
    hostData(tensor).subarray(tensor.offset, tensor.offset + size),
  );
  for (let i = 0; i < size; i++) {
    const gradient = gradScale * g[i];
    p[i] -= learningRate * weightDecay * p[i];
    m[i] = beta1 * m[i] + (1 - beta1) * gradient;
    v[i] = beta2 * v[i] + (1 - beta2) * gradient ** 2;
    const mean = m[i] / (1 - beta1 ** step);
    const root = Math.sqrt(v[i] / (1 - beta2 ** step));
    p[i] -= (learningRate * mean) / (root + eps);
  }
}

export function scaleInPlace(x: Tensor, factor: number): void {
  for (let row = 0; row < x.rows; row++)
    for (let column = 0; column < x.columns; column++) hostData(x)[x.offset + row * x.rowStride + column] *= factor;
}
