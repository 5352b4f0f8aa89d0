// siluGate on the WASM backend: binds kernels/assembly/silu-gate.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { withGradOrDiscard } from "./discard.ts";
import type { SiluGateInputs, SiluGateOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;

export function forward(
  { inputs: { x, z }, outputs: { y } }: ForwardCall<SiluGateInputs, SiluGateOutputs, object>,
  backend: WasmBackend,
): void {
  const args = [pointer(x), x.rowStride, pointer(z), z.rowStride, pointer(y), y.rowStride, y.rows, y.columns];
  backend.dispatch("siluGate", args, y.size < SERIAL_ELEMENTS);
}

export function backward(
  { inputs: { x, z }, gradOutputs, gradInputs }: BackwardCall<SiluGateInputs, SiluGateOutputs, object>,
  backend: WasmBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX, z: gradZ } = gradInputs;
  if (!gradY) return;
  withGradOrDiscard(backend, gradX, x.columns, (place) => {
    const args = [pointer(x), x.rowStride, pointer(z), z.rowStride, pointer(gradY), gradY.rowStride, ...place];
    args.push(pointer(gradZ), gradZ?.rowStride ?? 0, x.rows, x.columns);
    backend.dispatch("siluGateBackward", args, x.size < SERIAL_ELEMENTS);
  });
}
