// gelu: the Gaussian error linear unit, x times the probability that a standard normal number lies below x.
// Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
import { ConfigError } from "../../core/errors.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type GeluInputs = { readonly x: Tensor };
export type GeluOutputs = { readonly y: Tensor };

export interface GeluOptions {
  /** "none": with the error function itself, as PyTorch's default; "tanh": the paper's approximation, as GPT-2. Default "none". */
  readonly approximate?: "none" | "tanh";
}

/**
 * y = x Φ(x), Φ(x) = (1 + erf(x / √2)) / 2; with approximate "tanh" y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
 * @param x `[..., columns]`, may be a view of columns
 * @returns y, the same shape
 * @throws ConfigError for another `approximate`
 */
export const gelu: Op<GeluInputs, GeluOutputs, GeluOptions> = defineOp<GeluInputs, GeluOutputs, GeluOptions>({
  name: "gelu",
  shape({ x }, { approximate = "none" }) {
    if (approximate !== "none" && approximate !== "tanh")
      throw new ConfigError(`gelu: approximate must be "none" or "tanh", got ${JSON.stringify(approximate)}.`);
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
