// expandRows on the WASM backend: binds kernels/assembly/expand-rows.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { addColumnSums } from "../rms-norm/column-sums.ts";
import type { ExpandRowsInputs, ExpandRowsOptions, ExpandRowsOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

export function forward(
  { inputs: { row }, outputs: { y } }: ForwardCall<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions>,
  backend: WasmBackend,
): void {
  const args = [pointer(row), pointer(y), y.rowStride, y.rows, y.columns];
  backend.dispatch("expandRows", args, y.size < SERIAL_ELEMENTS);
}

export function backward(
  { gradOutputs: { y }, gradInputs }: BackwardCall<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions>,
  backend: WasmBackend,
): void {
  const { row: sum } = gradInputs;
  if (!y || !sum) return;
  const { rows, columns } = y;
  addColumnSums(backend, { rows, columns, sum }, (partials, rowsPerBlock) => {
    const args = [pointer(y), y.rowStride, partials, rows, columns, rowsPerBlock];
    backend.dispatch("sumRows", args, y.size < SERIAL_ELEMENTS);
  });
}
