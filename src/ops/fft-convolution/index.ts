// fftConvolution: a long causal convolution along time, a kernel a channel, by the fast Fourier transform.
// Source: Gu et al. 2022 (S4D), section 2; Cooley & Tukey 1965; derivation in README.md.
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type FftConvolutionInputs = { readonly x: Tensor; readonly kernel: Tensor; readonly D?: Tensor | undefined };
export type FftConvolutionOutputs = { readonly y: Tensor };

const MOST_STEPS = 1 << 20;

/**
 * y[b, t, c] = sum_{s <= t} kernel[s, c] x[b, t - s, c] + D[c] x[b, t, c].
 * Steps 1 to 2^20. The error is about 1e-6 of the largest magnitude, for every t: a transform mixes all of them.
 * @param x `[batch, length, channels]`, may be a view of columns
 * @param kernel f32 `[length, channels]`
 * @param D f32 `[channels]`, optional
 * @returns y, the shape of x
 * @throws ShapeError
 */
export const fftConvolution: Op<FftConvolutionInputs, FftConvolutionOutputs, object> = defineOp<
  FftConvolutionInputs,
  FftConvolutionOutputs,
  object
>({
  name: "fftConvolution",
  shape({ x, kernel, D }) {
    const [, length, channels] = x.shape;
    if (x.shape.length !== 3 || !length || !channels || length > MOST_STEPS)
      throw new ShapeError(
        `fftConvolution: x must be [batch, length from 1 to ${MOST_STEPS}, channels], got ${formatShape(x.shape)}.`,
      );
    if (!isSameShape(kernel.shape, [length, channels]))
      throw new ShapeError(
        `fftConvolution: kernel must be [length, channels] = ${formatShape([length, channels])}, got ${formatShape(kernel.shape)}.`,
      );
    if (D && !isSameShape(D.shape, [channels]))
      throw new ShapeError(`fftConvolution: D must be [channels] = [${channels}], got ${formatShape(D.shape)}.`);
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "kernel", "D"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
