// causalConv1d: depthwise causal convolution over time, with SiLU: the short memory in front of the selective scan.
// Source: Dao-AILab/causal-conv1d.
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpuGradient from "./webgpu-gradient.ts";
import * as webgpu from "./webgpu.ts";

export type ConvInputs = {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly bias?: Tensor | undefined;
  readonly initialState?: Tensor | undefined;
  readonly documentStarts?: Tensor | undefined;
};
export type ConvOutputs = { readonly y: Tensor; readonly finalState: Tensor };
export interface ConvOptions {
  /** Whether y = silu(...); default false. */
  readonly silu?: boolean;
}

const MIN_WIDTH = 2;
const MAX_WIDTH = 4;

/**
 * y[t] = f(bias + sum over k of weight[:, k] · x[t - width + 1 + k]), f = silu or nothing; zeros before the start.
 *
 * The same bits whether a sequence comes whole or in pieces through the state, and whatever else is in the batch.
 * @param x `[batch, length, channels]`, may be a view of columns
 * @param weight `[channels, width]`, width 2 to 4; the last column multiplies the current token
 * @param bias `[channels]`, optional
 * @param initialState `[batch, width - 1, channels]`, optional: the inputs before the first, oldest first
 * @param documentStarts i32 `[batch, length]`, optional: 1 where nothing before this token may be seen
 * @returns y `[batch, length, channels]`; finalState `[batch, width - 1, channels]`, which may be written over initialState
 * @throws ShapeError
 */
export const causalConv1d: Op<ConvInputs, ConvOutputs, ConvOptions> = defineOp<ConvInputs, ConvOutputs, ConvOptions>({
  name: "causalConv1d",
  shape({ x, weight, bias, initialState, documentStarts }) {
    const [batch, length, channels] = x.shape;
    if (x.shape.length !== 3 || !length)
      throw new ShapeError(`causalConv1d: x must be [batch, length >= 1, channels], got ${formatShape(x.shape)}.`);
    const width = weight.shape[1];
    if (weight.shape.length !== 2 || weight.shape[0] !== channels || !(width >= MIN_WIDTH && width <= MAX_WIDTH))
      throw new ShapeError(
        `causalConv1d: weight must be [channels, width] = [${channels}, 2..4], got ${formatShape(weight.shape)}.`,
      );
    const expected: [string, Tensor | undefined, number[]][] = [
      ["bias", bias, [channels]],
      ["initialState", initialState, [batch, width - 1, channels]],
      ["documentStarts", documentStarts, [batch, length]],
    ];
    for (const [name, tensor, shape] of expected)
      if (tensor && !isSameShape(tensor.shape, shape))
        throw new ShapeError(`causalConv1d: ${name} must be ${formatShape(shape)}, got ${formatShape(tensor.shape)}.`);
    return { y: { shape: x.shape, dtype: x.dtype }, finalState: { shape: [batch, width - 1, channels] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "weight", "bias", "initialState"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpuGradient.backward },
  },
});
