// lstm: a long short-term memory over a sequence, from the point where x has been multiplied by its weight.
// Source: Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; in PyTorch's form and order of gates.
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { checkRecurrent } from "../recurrent/checks.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type LstmInputs = {
  readonly gates: Tensor;
  readonly weight: Tensor;
  readonly initialH?: Tensor | undefined;
  readonly initialC?: Tensor | undefined;
  readonly documentStarts?: Tensor | undefined;
};
export type LstmOutputs = { readonly y: Tensor; readonly finalH: Tensor; readonly finalC: Tensor };

/** Gates of an LSTM: i, f, g, o, in this order. */
const GATES = 4;

/**
 * i, f, g, o = σ, σ, tanh, σ of (gates[t] + W h[t-1]);  c[t] = f c[t-1] + i g;  h[t] = o tanh(c[t]);  y[t] = h[t].
 * @param gates `[batch, length, 4 dHidden]`, x W_ihᵀ + b_ih + b_hh in the order i, f, g, o; f32 or f16, may be a view of columns
 * @param weight `[4 dHidden, dHidden]`, W_hh, f32
 * @param initialH, initialC `[batch, dHidden]`, f32, optional: zeros
 * @param documentStarts i32 `[batch, length]`, optional: 1 where h and c are zero before this token
 * @returns y `[batch, length, dHidden]` in the element type of gates; finalH, finalC `[batch, dHidden]`, f32
 * @throws ShapeError, DTypeError
 */
export const lstm: Op<LstmInputs, LstmOutputs, object> = defineOp<LstmInputs, LstmOutputs, object>({
  name: "lstm",
  shape(inputs) {
    const { batch, length, dHidden } = checkRecurrent("lstm", GATES, inputs, ({ batch, dHidden }) => [
      ["initialH", inputs.initialH, [batch, dHidden]],
      ["initialC", inputs.initialC, [batch, dHidden]],
    ]);
    const state = { shape: [batch, dHidden] };
    return { y: { shape: [batch, length, dHidden], dtype: inputs.gates.dtype }, finalH: state, finalC: state };
  },
  // What became of the gates; and h and, behind it in each row, c before each token, zeros where a document starts.
  saves({ gates, weight }) {
    const [batch, length] = gates.shape;
    return { activated: { shape: gates.shape }, before: { shape: [batch, length, 2 * weight.columns] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["gates", "weight", "initialH", "initialC"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
