// LayerNorm: mean 0 and variance 1 along each row, then a scale and a shift.
import type { DType } from "../core/dtype.ts";
import { layerNorm } from "../ops/layer-norm/index.ts";
import { Parameter } from "../tensor/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** y = (x - mean) / sqrt(variance + eps) · weight + bias (Ba et al. 2016). x: `[..., width]` -> same. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly eps: number;

  constructor(width: number, { eps = 1e-5 }: { eps?: number } = {}) {
    super();
    this.weight = new Parameter([width], { decays: false });
    this.bias = new Parameter([width], { decays: false });
    this.eps = eps;
  }

  /** @param dtype element type of the result; default: that of x. */
  forward(x: Tensor, dtype: DType = x.dtype): Tensor {
    return layerNorm({ x, weight: this.weight.tensor, bias: this.bias.tensor }, { eps: this.eps, dtype }).y;
  }
}
