// add: the sum of two tensors of one shape (the residual connection).
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type AddInputs = { readonly a: Tensor; readonly b: Tensor };
export type AddOutputs = { readonly y: Tensor };

/**
 * y = a + b.
 * @param a, b `[..., columns]`, the same shape; each may be a view of columns
 * @returns y, the same shape
 * @throws ShapeError when the shapes differ
 */
export const add: Op<AddInputs, AddOutputs, object> = defineOp<AddInputs, AddOutputs, object>({
  name: "add",
  shape({ a, b }) {
    if (!isSameShape(a.shape, b.shape))
      throw new ShapeError(
        `add: a and b must have the same shape, got ${formatShape(a.shape)} and ${formatShape(b.shape)}.`,
      );
    return { y: { shape: a.shape, dtype: a.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["a", "b"],
    passesTo: "a",
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
