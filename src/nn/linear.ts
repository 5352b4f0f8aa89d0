// Linear: y = x Wᵀ + b.
import type { DType } from "../core/dtype.ts";
import { linear } from "../ops/linear/index.ts";
import { Parameter } from "../tensor/parameter.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** Options of {@link Linear}. */
export interface LinearOptions {
  /** Whether it has a bias; default false. */
  bias?: boolean;
}

/** y = x Wᵀ + b, x: `[..., inputs]` -> `[..., outputs]`; weight `[outputs, inputs]`, as PyTorch's nn.Linear. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | undefined;

  constructor(inputs: number, outputs: number, { bias = false }: LinearOptions = {}) {
    super();
    this.weight = new Parameter([outputs, inputs], { isPackable: true });
    this.bias = bias ? new Parameter([outputs], { decays: false }) : undefined;
  }

  /** @param dtype element type of the result; default: that of x. */
  forward(x: Tensor, dtype: DType = x.dtype): Tensor {
    return linear({ x, weight: this.weight.tensor, bias: this.bias?.tensor }, { dtype }).y;
  }

  /** x Wᵀ without the bias, for an op that fuses the bias into its own kernel. */
  forwardWithoutBias(x: Tensor): Tensor {
    return linear({ x, weight: this.weight.tensor, bias: undefined }, {}).y;
  }
}
