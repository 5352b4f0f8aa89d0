// rmsNorm on the WASM backend: binds kernels/assembly/rms-norm.ts.
import { floatBits } from "../../backends/wasm/index.ts";
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { addColumnSums } from "./column-sums.ts";
import type { RmsNormInputs, RmsNormOptions, RmsNormOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

export function forward(
  { inputs: { x, weight }, outputs: { y }, saved, options }: ForwardCall<RmsNormInputs, RmsNormOutputs, RmsNormOptions>,
  backend: WasmBackend,
): void {
  const { eps = 1e-5 } = options;
  const args = [pointer(x), x.rowStride, pointer(y), y.rowStride, pointer(weight), pointer(saved?.inverse)];
  backend.dispatch("rmsNorm", [...args, x.rows, x.columns, floatBits(eps)], x.size < SERIAL_ELEMENTS);
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<RmsNormInputs, RmsNormOutputs, RmsNormOptions>,
  backend: WasmBackend,
): void {
  const { x, weight } = inputs;
  const { x: gradX, weight: sum } = gradInputs;
  const { y: gradY } = gradOutputs;
  if (!gradY) return;
  const { rows, columns } = x;
  addColumnSums(backend, { rows, columns, sum }, (partials, rowsPerBlock) => {
    const args = [pointer(x), x.rowStride, pointer(gradY), gradY.rowStride, pointer(gradX), gradX?.rowStride ?? 0];
    args.push(pointer(weight), pointer(saved.inverse), partials, rows, columns, rowsPerBlock);
    backend.dispatch("rmsNormBackward", args, x.size < SERIAL_ELEMENTS);
  });
}
