// embedding on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { EmbeddingInputs, EmbeddingOptions, EmbeddingOutputs } from "./index.ts";

export function forward(call: ForwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>): void {
  const { ids, weight } = call.inputs;
  const { y } = call.outputs;
  for (const [row, id] of ids.readNow().entries())
    for (let column = 0; column < y.columns; column++)
      hostData(y)[y.offset + row * y.rowStride + column] =
        id >= 0 && id < weight.rows ? hostData(weight)[weight.offset + id * weight.rowStride + column] : NaN;
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
