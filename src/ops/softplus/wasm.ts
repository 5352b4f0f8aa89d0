// softplus on the WASM backend: binds kernels/assembly/softplus.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { addColumnSums } from "../rms-norm/column-sums.ts";
import { withGradOrDiscard } from "../silu-gate/discard.ts";
import type { SoftplusInputs, SoftplusOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;

export function forward(
  { inputs: { x, bias }, outputs: { y } }: ForwardCall<SoftplusInputs, SoftplusOutputs, object>,
  backend: WasmBackend,
): void {
  const args = [pointer(x), x.rowStride, pointer(bias), pointer(y), y.rowStride, x.rows, x.columns];
  backend.dispatch("softplus", args, x.size < SERIAL_ELEMENTS);
}

export function backward(
  { inputs: { x, bias }, gradOutputs, gradInputs }: BackwardCall<SoftplusInputs, SoftplusOutputs, object>,
  backend: WasmBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX, bias: sum } = gradInputs;
  if (!gradY) return;
  const { rows, columns } = x;
  withGradOrDiscard(backend, gradX, columns, (place) =>
    addColumnSums(backend, { rows, columns, sum }, (partials, rowsPerBlock) => {
      const args = [pointer(x), x.rowStride, pointer(bias), pointer(gradY), gradY.rowStride, ...place];
      backend.dispatch("softplusBackward", [...args, partials, rows, columns, rowsPerBlock], x.size < SERIAL_ELEMENTS);
    }),
  );
}
