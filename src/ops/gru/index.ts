// gru: gated recurrent units over a sequence, from the point where x has been multiplied by its weight.
// Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder"; in PyTorch's form, whose reset gate
// comes after the product with W_hn, and in its order of gates.
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { checkRecurrent } from "../recurrent/checks.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type GruInputs = {
  readonly gates: Tensor;
  readonly weight: Tensor;
  readonly bias: Tensor;
  readonly initialH?: Tensor | undefined;
  readonly documentStarts?: Tensor | undefined;
};
export type GruOutputs = { readonly y: Tensor; readonly finalH: Tensor };

/** Gates of a GRU: r, z, n, in this order. */
const GATES = 3;

/**
 * With u = W h[t-1] + bias:  r = σ(gates_r + u_r);  z = σ(gates_z + u_z);  n = tanh(gates_n + r u_n);
 * h[t] = (1 - z) n + z h[t-1];  y[t] = h[t].
 * @param gates `[batch, length, 3 dHidden]`, x W_ihᵀ + b_ih in the order r, z, n; f32 or f16, may be a view of columns
 * @param weight `[3 dHidden, dHidden]`, W_hh, f32
 * @param bias `[3 dHidden]`, b_hh, f32
 * @param initialH `[batch, dHidden]`, f32, optional: zeros
 * @param documentStarts i32 `[batch, length]`, optional: 1 where h is zero before this token
 * @returns y `[batch, length, dHidden]` in the element type of gates; finalH `[batch, dHidden]`, f32
 * @throws ShapeError, DTypeError
 */
export const gru: Op<GruInputs, GruOutputs, object> = defineOp<GruInputs, GruOutputs, object>({
  name: "gru",
  shape(inputs) {
    const { batch, length, dHidden } = checkRecurrent("gru", GATES, inputs, ({ batch, dHidden }) => [
      ["bias", inputs.bias, [GATES * dHidden]],
      ["initialH", inputs.initialH, [batch, dHidden]],
    ]);
    return {
      y: { shape: [batch, length, dHidden], dtype: inputs.gates.dtype },
      finalH: { shape: [batch, dHidden] },
    };
  },
  // r, z, n and u_n; and h before each token, zeros where a document starts.
  saves({ gates, weight }) {
    const [batch, length] = gates.shape;
    const dHidden = weight.columns;
    return { activated: { shape: [batch, length, 4 * dHidden] }, before: { shape: [batch, length, dHidden] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["gates", "weight", "bias", "initialH"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
