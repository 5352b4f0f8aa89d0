// expertMlp: a mixture of experts: each token through the gated MLPs that were chosen for it, and the weighted sum of them.
// Source: Shazeer et al. 2017, "Outrageously Large Neural Networks", eq. 1; the MLP is SwiGLU (Shazeer 2020, eq. 6).
import { DTypeError, ShapeError } from "../../core/errors.ts";
import { isReal } from "../../core/dtype.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op, TensorSpec } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type ExpertMlpInputs = {
  readonly x: Tensor;
  readonly gates: Tensor;
  readonly choices: Tensor;
  readonly upGate: Tensor;
  readonly down: Tensor;
};
export type ExpertMlpOutputs = { readonly y: Tensor };

/**
 * y = Σ_k gates[k] down_e (u silu(z)), [u, z] = upGate_e x, e = choices[k]. Only what was chosen is computed, and no token
 * is dropped, however unevenly the experts are chosen. y has the element type of x; sums are float32.
 * @param x `[..., dModel]`, may be a view of columns
 * @param gates f32 `[..., topK]`  @param choices i32 `[..., topK]`, experts from 0 on, both with closed-up rows
 * @param upGate `[experts, 2 dInner, dModel]`: u first, then z  @param down `[experts, dModel, dInner]`, both by rows
 * @returns y, the shape of x
 * @throws ShapeError, DTypeError
 */
export const expertMlp: Op<ExpertMlpInputs, ExpertMlpOutputs, object> = defineOp<
  ExpertMlpInputs,
  ExpertMlpOutputs,
  object
>({
  name: "expertMlp",
  shape: checkShapes,
  saves: savedBy,
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["x", "gates", "upGate", "down"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});

/** On a device the order of the pairs (token, slot) by expert, and [u, z] in this order. */
function savedBy(inputs: ExpertMlpInputs): Record<string, TensorSpec> {
  const { name } = inputs.x.backend;
  if (name === "reference") return {};
  return name === "wasm" ? wasm.savedBy(inputs) : webgpu.savedBy(inputs);
}

function checkShapes({ x, gates, choices, upGate, down }: ExpertMlpInputs): { y: TensorSpec } {
  const [experts, dModel, dInner] = down.shape;
  if (down.shape.length !== 3 || !isSameShape(upGate.shape, [experts, 2 * dInner, dModel]) || x.columns !== dModel)
    throw new ShapeError(
      `expertMlp: x must be [..., dModel], upGate [experts, 2 dInner, dModel] and down [experts, dModel, dInner], got ${formatShape(x.shape)}, ${formatShape(upGate.shape)} and ${formatShape(down.shape)}.`,
    );
  if (!isSameShape(gates.shape, choices.shape) || !isSameShape(gates.shape.slice(0, -1), x.shape.slice(0, -1)))
    throw new ShapeError(
      `expertMlp: gates and choices must be [..., topK] with the tokens of x ${formatShape(x.shape)}, got ${formatShape(gates.shape)} and ${formatShape(choices.shape)}.`,
    );
  if (!gates.isContiguous || !choices.isContiguous || !upGate.isContiguous || !down.isContiguous)
    throw new ShapeError("expertMlp: gates, choices and the weights must have closed-up rows, got a view of columns.");
  if (!isReal(x.dtype) || gates.dtype !== "f32" || choices.dtype !== "i32")
    throw new DTypeError(
      `expertMlp: x must be f32 or f16, gates f32 and choices i32, got ${x.dtype}, ${gates.dtype} and ${choices.dtype}. Take the last two from routeExperts.`,
    );
  if (upGate.format !== "rows" || down.format !== "rows")
    throw new DTypeError(
      `expertMlp: weights must be plain rows, got ${upGate.format} and ${down.format}. Load them as rows.`,
    );
  return { y: { shape: x.shape, dtype: x.dtype } };
}
