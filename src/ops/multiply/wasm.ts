// multiply on the WASM backend: binds kernels/assembly/multiply.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { MultiplyInputs, MultiplyOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

export function forward(
  { inputs: { a, b }, outputs: { y } }: ForwardCall<MultiplyInputs, MultiplyOutputs, object>,
  backend: WasmBackend,
): void {
  dispatchMultiply(backend, a, b, { y, adds: false });
}

export function backward(
  { inputs: { a, b }, gradOutputs: { y: gradY }, gradInputs }: BackwardCall<MultiplyInputs, MultiplyOutputs, object>,
  backend: WasmBackend,
): void {
  if (!gradY) return;
  if (gradInputs.a) dispatchMultiply(backend, gradY, b, { y: gradInputs.a, adds: true });
  if (gradInputs.b) dispatchMultiply(backend, gradY, a, { y: gradInputs.b, adds: true });
}

function dispatchMultiply(backend: WasmBackend, a: Tensor, b: Tensor, { y, adds }: { y: Tensor; adds: boolean }): void {
  const args = [pointer(a), a.rowStride, pointer(b), b.rowStride, pointer(y), y.rowStride, y.rows, y.columns];
  backend.dispatch("multiply", [...args, Number(adds)], y.size < SERIAL_ELEMENTS);
}
