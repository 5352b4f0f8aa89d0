// rotary: positions told to attention by turning pairs of channels of queries and keys.
// Source: Su et al. 2021, "RoFormer", eq. 34; pairs lie half a head apart, as in GPT-NeoX and Llama.
import { ConfigError, DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type RotaryInputs = { readonly x: Tensor; readonly positions?: Tensor | undefined };
export type RotaryOutputs = { readonly y: Tensor };

export interface RotaryOptions {
  /** Channels of a head. */
  readonly headDim: number;
  /** Channels of a head that turn, even; the rest passes through. Default: all. */
  readonly rotaryDim?: number;
  /** The slowest pair turns by about 1 / base a token. Default 10000. */
  readonly base?: number;
}

/**
 * For each head and i < rotaryDim / 2, with angle = position · base^(-2i / rotaryDim):
 *
 *     y[i] = x[i] cos(angle) - x[j] sin(angle);  y[j] = x[j] cos(angle) + x[i] sin(angle);  j = i + rotaryDim / 2
 *
 * Token t of a row is at position `positions[row] + t`. Angles hold to 1e-6 for positions up to 2^20.
 * @param x `[batch, length, heads · headDim]`, may be a view of columns
 * @param positions i32 `[batch]`, >= 0: the position of each row's first token; default 0
 * @returns y, the shape and dtype of x
 * @throws ShapeError, DTypeError; ConfigError for a rotaryDim that is odd or larger than headDim, or a base that is not above 1
 */
export const rotary: Op<RotaryInputs, RotaryOutputs, RotaryOptions> = defineOp<
  RotaryInputs,
  RotaryOutputs,
  RotaryOptions
>({
  name: "rotary",
  shape({ x, positions }, { headDim, rotaryDim = headDim, base = 10000 }) {
    if (x.shape.length !== 3 || !(headDim > 0) || x.columns % headDim !== 0)
      throw new ShapeError(
        `rotary: x must be [batch, length, heads · headDim] with headDim ${headDim}, got ${formatShape(x.shape)}.`,
      );
    if (!(rotaryDim > 0 && rotaryDim % 2 === 0 && rotaryDim <= headDim))
      throw new ConfigError(`rotary: rotaryDim must be even and within 2..headDim = ${headDim}, got ${rotaryDim}.`);
    if (!(base > 1 && Number.isFinite(base))) throw new ConfigError(`rotary: base must be above 1, got ${base}.`);
    if (positions && !isSameShape(positions.shape, [x.shape[0]]))
      throw new ShapeError(`rotary: positions must be [batch] = [${x.shape[0]}], got ${formatShape(positions.shape)}.`);
    if (positions && positions.dtype !== "i32")
      throw new DTypeError(`rotary: positions must be i32, got ${positions.dtype}.`);
    return { y: { shape: x.shape, dtype: x.dtype } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
