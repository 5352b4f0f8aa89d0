// embedding on the WASM backend: binds kernels/assembly/embedding.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { gatherPackedRows } from "../linear/pack.ts";
import type { EmbeddingInputs, EmbeddingOptions, EmbeddingOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

export function forward(
  { inputs: { ids, weight }, outputs: { y } }: ForwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>,
  backend: WasmBackend,
): void {
  // A head that is tied to the embedding packs its weight for products.
  if (weight.format === "rows") dispatch(backend, "embedding", ids, weight, y);
  else gatherPackedRows(ids, weight, y);
}

export function backward(
  { inputs, gradOutputs, gradInputs }: BackwardCall<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions>,
  backend: WasmBackend,
): void {
  const { y } = gradOutputs;
  if (gradInputs.weight && y) dispatch(backend, "embeddingBackward", inputs.ids, gradInputs.weight, y);
}

function dispatch(
  backend: WasmBackend,
  kernel: "embedding" | "embeddingBackward",
  ids: Tensor,
  weight: Tensor,
  y: Tensor,
): void {
  const args = [pointer(ids), ids.rowStride, ids.columns, pointer(weight), weight.rowStride, pointer(y), y.rowStride];
  backend.dispatch(kernel, [...args, y.rows, y.columns, weight.rows], y.size < SERIAL_ELEMENTS);
}
