// linear: the product of rows with a weight matrix, where nearly all arithmetic of a model is.
import type { DType } from "../../core/dtype.ts";
import { isReal } from "../../core/dtype.ts";
import { DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type LinearInputs = { readonly x: Tensor; readonly weight: Tensor; readonly bias?: Tensor | undefined };
export type LinearOutputs = { readonly y: Tensor };
export interface LinearOptions {
  /** Element type of y; default: that of x. Sums are float32 in any case. */
  readonly dtype?: DType;
}

/**
 * y = x Wᵀ + bias.
 *
 * A row of y has the same bits however many rows are computed together, and for any number of threads: a batch equals
 * its members, a prompt in pieces the whole prompt. With an int8 weight it also has the same bits on every machine.
 * @param x `[..., inputs]`, may be a view of columns
 * @param weight `[outputs, inputs]`: rows (the only format with gradients), or packed by `pack.ts`. With int8, each row
 *   of x is rounded to 15 bits on the way.
 * @param bias `[outputs]`, optional
 * @returns y `[..., outputs]`
 * @throws ShapeError when the sizes do not fit; DTypeError when a gradient is asked through a packed weight
 */
export const linear: Op<LinearInputs, LinearOutputs, LinearOptions> = defineOp<
  LinearInputs,
  LinearOutputs,
  LinearOptions
>({
  name: "linear",
  shape({ x, weight, bias }, { dtype = x.dtype }) {
    const [outputs, inputs] = weight.shape;
    if (weight.shape.length !== 2 || x.shape.length === 0 || x.columns !== inputs)
      throw new ShapeError(
        `linear: x must be [..., inputs] and weight [outputs, inputs], got ${formatShape(x.shape)} and ${formatShape(weight.shape)}.`,
      );
    if (bias && (bias.shape.length !== 1 || bias.columns !== outputs))
      throw new ShapeError(`linear: bias must be [outputs] = [${outputs}], got ${formatShape(bias.shape)}.`);
    if (!isReal(x.dtype)) throw new DTypeError(`linear: x must be f32 or f16, got ${x.dtype}.`);
    return { y: { shape: [...x.shape.slice(0, -1), outputs], dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "weight", "bias"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
