// s4dKernel: the convolution kernel of a diagonal, time-invariant state-space model (S4D), sampled at whole steps.
// Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models", eq. 6 and section 3.
import { ShapeError } from "../../core/errors.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { S4dParameters } from "./parameters.ts";
import { checkS4dParameters, S4D_PARAMETERS } from "./parameters.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type S4dKernelInputs = S4dParameters;
export type S4dKernelOutputs = { readonly kernel: Tensor };
export interface S4dKernelOptions {
  /** Steps of the kernel, 1 to 2^20. */
  readonly length: number;
}

/** Longest kernel: where a step's place in float32 and its phase in fixed point are still exact. */
const MOST_STEPS = 1 << 20;

/**
 * kernel[l, c] = 2 Re(sum_n C[c, n] BBar[c, n] ABar[c, n]^l) with the zero-order hold of B = 1:
 * ABar = exp(dt A), BBar = (ABar - 1) / A, dt = exp(logDt), A = -exp(A_log_real) + i A_imag.
 * @param logDt `[channels]`
 * @param A_log_real, A_imag `[channels, pairs]`: one of each conjugate pair of states
 * @param C `[channels, 2 * pairs]`: pair n in columns 2n (real) and 2n + 1 (imaginary)
 * @returns kernel f32 `[length, channels]`, channel fastest
 * @throws ShapeError
 */
export const s4dKernel: Op<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions> = defineOp<
  S4dKernelInputs,
  S4dKernelOutputs,
  S4dKernelOptions
>({
  name: "s4dKernel",
  shape(inputs, { length }) {
    const { channels } = checkS4dParameters("s4dKernel", inputs);
    if (!Number.isInteger(length) || length < 1 || length > MOST_STEPS)
      throw new ShapeError(`s4dKernel: length must be an integer from 1 to ${MOST_STEPS}, got ${length}.`);
    return { kernel: { shape: [length, channels] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: S4D_PARAMETERS,
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
