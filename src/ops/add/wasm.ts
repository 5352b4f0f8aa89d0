// add on the WASM backend: binds kernels/assembly/add.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { AddInputs, AddOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

export function forward(
  { inputs: { a, b }, outputs: { y } }: ForwardCall<AddInputs, AddOutputs, object>,
  backend: WasmBackend,
): void {
  dispatchAdd(backend, a, b, y);
}

export function backward(
  { gradOutputs: { y }, gradInputs }: BackwardCall<AddInputs, AddOutputs, object>,
  backend: WasmBackend,
): void {
  for (const grad of [gradInputs.a, gradInputs.b]) if (grad && y) dispatchAdd(backend, grad, y, grad);
}

/** y = a + b; y may be a or b. */
function dispatchAdd(backend: WasmBackend, a: Tensor, b: Tensor, y: Tensor): void {
  const args = [pointer(a), a.rowStride, pointer(b), b.rowStride, pointer(y), y.rowStride, y.rows, y.columns];
  backend.dispatch("add", args, y.size < SERIAL_ELEMENTS);
}
