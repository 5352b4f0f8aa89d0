// embedding on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { unpackRow } from "../linear/pack.ts";
import type { EmbeddingInputs, EmbeddingOptions, EmbeddingOutputs } from "./index.ts";

export function forward(call: ForwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>): void {
  const { ids, weight } = call.inputs;
  const { y } = call.outputs;
  for (const [row, id] of ids.readNow().entries()) {
    const from = id >= 0 && id < weight.rows ? rowOf(weight, id) : undefined;
    for (let column = 0; column < y.columns; column++)
      hostData(y)[y.offset + row * y.rowStride + column] = from ? from[column] : NaN;
  }
}

function rowOf(weight: Tensor, row: number): Float64Array | Float32Array {
  if (weight.format === "int8") return unpackRow(weight, row);
  return hostData(weight).subarray(weight.offset + row * weight.rowStride);
}

/** grad.weight[ids[i]] += grad.y[i]. */
export function backward(call: BackwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>): void {
  const { weight } = call.gradInputs;
  const { y } = call.gradOutputs;
  if (!weight || !y) return;
  for (const [row, id] of call.inputs.ids.readNow().entries()) {
    if (!(id >= 0 && id < weight.rows)) continue;
    for (let column = 0; column < y.columns; column++)
      hostData(weight)[weight.offset + id * weight.rowStride + column] +=
        hostData(y)[y.offset + row * y.rowStride + column];
  }
}
