// rmsNorm: each row divided by its root mean square, times a weight.
// Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", eq. 4; derivation in README.md.
import type { DType } from "../../core/dtype.ts";
import { ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type RmsNormInputs = { readonly x: Tensor; readonly weight: Tensor };
export type RmsNormOutputs = { readonly y: Tensor };

export interface RmsNormOptions {
  /** Added to the mean square, so that a row of zeros has a norm. Default 1e-5. */
  readonly eps?: number;
  /** Element type of y; default: that of x. */
  readonly dtype?: DType;
}

/**
 * y = x / sqrt(mean(x²) + eps) · weight, the mean over the last axis. A row's result has the same bits whatever the
 * other rows and however many there are.
 * @param x `[..., width]`, may be a view of columns
 * @param weight `[width]`
 * @returns y, the shape of x
 * @throws ShapeError when the weight is not as wide as x
 */
export const rmsNorm: Op<RmsNormInputs, RmsNormOutputs, RmsNormOptions> = defineOp<
  RmsNormInputs,
  RmsNormOutputs,
  RmsNormOptions
>({
  name: "rmsNorm",
  shape({ x, weight }, { dtype = x.dtype }) {
    if (weight.shape.length !== 1 || weight.columns !== x.columns || x.shape.length === 0 || x.columns === 0)
      throw new ShapeError(
        `rmsNorm: x must be [..., width] and weight [width], got ${formatShape(x.shape)} and ${formatShape(weight.shape)}.`,
      );
    return { y: { shape: x.shape, dtype } };
  },
  saves: ({ x }) => ({ inverse: { shape: [x.rows] } }),
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "weight"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
