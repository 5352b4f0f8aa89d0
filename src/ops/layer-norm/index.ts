// layerNorm: each row less its mean, divided by its standard deviation, times a weight, plus a bias.
// Source: Ba, Kiros & Hinton 2016, "Layer Normalization", eq. 4; derivation in README.md.
import type { DType } from "../../core/dtype.ts";
import { ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type LayerNormInputs = { readonly x: Tensor; readonly weight: Tensor; readonly bias: Tensor };
export type LayerNormOutputs = { readonly y: Tensor };

export interface LayerNormOptions {
  /** Added to the variance, so that a row of equal numbers has a norm. Default 1e-5. */
  readonly eps?: number;
  /** Element type of y; default: that of x. */
  readonly dtype?: DType;
}

/**
 * y = (x - mean(x)) / sqrt(var(x) + eps) · weight + bias; mean and variance (divided by the width, not by one less) over
 * the last axis. A row's result has the same bits whatever the other rows and however many there are.
 * @param x `[..., width]`, may be a view of columns
 * @param weight, bias `[width]`
 * @returns y, the shape of x
 * @throws ShapeError when the weight or the bias is not as wide as x
 */
export const layerNorm: Op<LayerNormInputs, LayerNormOutputs, LayerNormOptions> = defineOp<
  LayerNormInputs,
  LayerNormOutputs,
  LayerNormOptions
>({
  name: "layerNorm",
  shape({ x, weight, bias }, { dtype = x.dtype }) {
    const fits = (vector: Tensor): boolean => vector.shape.length === 1 && vector.columns === x.columns;
    if (!fits(weight) || !fits(bias) || x.shape.length === 0 || x.columns === 0)
      throw new ShapeError(
        `layerNorm: x must be [..., width], weight and bias [width], got ${formatShape(x.shape)}, ${formatShape(weight.shape)} and ${formatShape(bias.shape)}.`,
      );
    return { y: { shape: x.shape, dtype } };
  },
  saves: ({ x }) => ({ mean: { shape: [x.rows] }, inverse: { shape: [x.rows] } }),
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "weight", "bias"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
