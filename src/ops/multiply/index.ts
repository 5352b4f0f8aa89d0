// multiply: the product of two tensors of one shape, element by element (a gate without a nonlinearity of its own).
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type MultiplyInputs = { readonly a: Tensor; readonly b: Tensor };
export type MultiplyOutputs = { readonly y: Tensor };

/**
 * y = a b, element by element.
 * @param a, b `[..., columns]`, the same shape; each may be a view of columns, and both may be one tensor
 * @returns y, the same shape, in the element type of a
 * @throws ShapeError when the shapes differ
 */
export const multiply: Op<MultiplyInputs, MultiplyOutputs, object> = defineOp<MultiplyInputs, MultiplyOutputs, object>({
  name: "multiply",
  shape({ a, b }) {
    if (!isSameShape(a.shape, b.shape))
      throw new ShapeError(
        `multiply: a and b must have the same shape, got ${formatShape(a.shape)} and ${formatShape(b.shape)}.`,
      );
    return { y: { shape: a.shape, dtype: a.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["a", "b"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
