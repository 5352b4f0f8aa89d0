// softplus: a smooth positive part. The step size of the SSM as an op of its own; selectiveScan fuses its own.
import { ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type SoftplusInputs = { readonly x: Tensor; readonly bias?: Tensor | undefined };
export type SoftplusOutputs = { readonly y: Tensor };

/**
 * y = ln(1 + e^(x + bias)), computed as max(v, 0) + ln(1 + e^-|v|), which neither overflows nor cancels.
 * @param x `[..., channels]`, may be a view of columns
 * @param bias `[channels]`, optional
 * @returns y, the shape of x, > 0
 * @throws ShapeError when the bias is not as wide as x
 */
export const softplus: Op<SoftplusInputs, SoftplusOutputs, object> = defineOp<SoftplusInputs, SoftplusOutputs, object>({
  name: "softplus",
  shape({ x, bias }) {
    if (bias && (bias.shape.length !== 1 || bias.columns !== x.columns))
      throw new ShapeError(
        `softplus: x must be [..., channels] and bias [channels], got ${formatShape(x.shape)} and ${formatShape(bias.shape)}.`,
      );
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "bias"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
