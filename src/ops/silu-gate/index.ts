// siluGate: one tensor gated by another (the z branch of a Mamba block, the gate of an MLP).
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type SiluGateInputs = { readonly x: Tensor; readonly z: Tensor };
export type SiluGateOutputs = { readonly y: Tensor };

/**
 * y = x silu(z), silu(z) = z / (1 + e^-z).
 * @param x, z `[..., columns]`, the same shape; each may be a view of columns
 * @returns y, the same shape
 * @throws ShapeError when the shapes differ
 */
export const siluGate: Op<SiluGateInputs, SiluGateOutputs, object> = defineOp<SiluGateInputs, SiluGateOutputs, object>({
  name: "siluGate",
  shape({ x, z }) {
    if (!isSameShape(x.shape, z.shape))
      throw new ShapeError(
        `siluGate: x and z must have the same shape, got ${formatShape(x.shape)} and ${formatShape(z.shape)}.`,
      );
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "z"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
