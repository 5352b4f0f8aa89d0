// RmsNorm: divides each row by its root mean square.
import type { DType } from "../core/dtype.ts";
import { rmsNorm } from "../ops/rms-norm/index.ts";
import { Parameter } from "../tensor/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** Options of {@link RmsNorm}. */
export interface RmsNormOptions {
  /** Added to the mean square; default 1e-5, the official Mamba's. */
  eps?: number;
}

/** Root-mean-square norm: y = x / sqrt(mean(x²) + eps) · weight (Zhang & Sennrich 2019). x: `[..., width]` -> same. */
export class RmsNorm extends Module {
  readonly weight: Parameter;
  readonly eps: number;

  constructor(width: number, { eps = 1e-5 }: RmsNormOptions = {}) {
    super();
    this.weight = new Parameter([width], { decays: false });
    this.eps = eps;
  }

  /** @param dtype element type of the result; default: that of x. */
  forward(x: Tensor, dtype: DType = x.dtype): Tensor {
    return rmsNorm({ x, weight: this.weight.tensor }, { eps: this.eps, dtype }).y;
  }
}
