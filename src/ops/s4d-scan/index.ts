// s4dScan: the recurrence of a diagonal, time-invariant state-space model (S4D), for steps, prefill and long sequences in pieces.
// Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models", eq. 4 and section 3.
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { S4dParameters } from "../s4d-kernel/parameters.ts";
import { CHUNK } from "./chunk.ts";
import { checkS4dParameters, S4D_PARAMETERS } from "../s4d-kernel/parameters.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type S4dScanInputs = S4dParameters & {
  readonly x: Tensor;
  readonly D?: Tensor | undefined;
  readonly initialState?: Tensor | undefined;
  readonly documentStarts?: Tensor | undefined;
};
export type S4dScanOutputs = { readonly y: Tensor; readonly finalState: Tensor };

/** Most pairs of states of a channel. */
const MOST_PAIRS = 128;

/**
 * h[t] = ABar h[t-1] + BBar x[t];  y[t] = 2 Re(sum_n C_n h_n[t]) + D x[t];  ABar and BBar as in `s4dKernel`.
 * The states are complex: pair n of a channel lies in columns 2n (real) and 2n + 1 (imaginary), as in C.
 * @param x `[batch, length, channels]`, may be a view of columns
 * @param logDt `[channels]`  @param A_log_real, A_imag `[channels, pairs]`, pairs 1 to 128  @param C `[channels, 2 * pairs]`
 * @param D `[channels]`, optional
 * @param initialState f32 `[batch, channels, 2 * pairs]`, optional: zeros
 * @param documentStarts i32 `[batch, length]`, optional: 1 where the state is zero before this token
 * @returns y, the shape of x; finalState f32 `[batch, channels, 2 * pairs]`, which may be written over initialState
 * @throws ShapeError
 */
export const s4dScan: Op<S4dScanInputs, S4dScanOutputs, object> = defineOp<S4dScanInputs, S4dScanOutputs, object>({
  name: "s4dScan",
  shape(inputs) {
    const { channels, pairs } = checkS4dParameters("s4dScan", inputs);
    const { x } = inputs;
    const [batch, length] = x.shape;
    if (x.shape.length !== 3 || !length || x.columns !== channels)
      throw new ShapeError(`s4dScan: x must be [batch, length >= 1, ${channels}], got ${formatShape(x.shape)}.`);
    if (pairs > MOST_PAIRS) throw new ShapeError(`s4dScan: pairs must be 1 to ${MOST_PAIRS}, got ${pairs}.`);
    const expected: ["D" | "initialState" | "documentStarts", number[]][] = [
      ["D", [channels]],
      ["initialState", [batch, channels, 2 * pairs]],
      ["documentStarts", [batch, length]],
    ];
    for (const [name, shape] of expected) {
      const tensor = inputs[name];
      if (tensor && !isSameShape(tensor.shape, shape))
        throw new ShapeError(`s4dScan: ${name} must be ${formatShape(shape)}, got ${formatShape(tensor.shape)}.`);
    }
    return { y: { shape: x.shape, dtype: x.dtype }, finalState: { shape: [batch, channels, 2 * pairs] } };
  },
  saves({ x, A_imag }) {
    const [batch, length, channels] = x.shape;
    const pairs = A_imag.columns;
    // The CPU holds whole vectors of channels and an even number of pairs.
    const isPadded = x.backend.name === "wasm";
    const size = isPadded ? Math.ceil(channels / 4) * 4 * Math.ceil(pairs / 2) * 2 : channels * pairs;
    return { chunkStarts: { shape: [batch * Math.ceil(length / CHUNK), 2 * size] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", ...S4D_PARAMETERS, "D", "initialState"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
