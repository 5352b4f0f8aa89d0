// For kernels whose inner loop always writes a gradient: where to write one that nobody wants.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** Passes `dispatch` the address and row stride of `grad`, or of one row of waste that all rows of the kernel share. */
export function withGradOrDiscard(
  backend: WasmBackend,
  grad: Tensor | undefined,
  columns: number,
  dispatch: (place: readonly [address: number, rowStride: number]) => void,
): void {
  if (grad) return dispatch([pointer(grad), grad.rowStride]);
  const waste = backend.allocate("f32", columns);
  dispatch([waste.pointer, 0]);
  backend.release(waste);
}
