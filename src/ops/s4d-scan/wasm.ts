// s4dScan on the WASM backend: binds kernels/assembly/s4d-scan.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { place, withDiscrete, withSums } from "../s4d-kernel/wasm-parameters.ts";
import type { S4dScanInputs, S4dScanOutputs } from "./index.ts";

/** Channels times steps times pairs below which one thread is quicker alone. */
const SERIAL_STEPS = 1 << 12;
/** Words of the gradients' arguments, which the forward kernel passes over. */
const GRADIENT_WORDS = 10;

export function forward(
  { inputs, outputs, saved }: ForwardCall<S4dScanInputs, S4dScanOutputs, object>,
  backend: WasmBackend,
): void {
  withDiscrete(backend, inputs, (args) => {
    const own = [...commonArgs(inputs, saved?.chunkStarts), ...place(outputs.y), ...place(outputs.finalState)];
    backend.dispatch("s4dScan", [...args, ...Array<number>(GRADIENT_WORDS).fill(0), ...own], isSmall(inputs));
  });
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<S4dScanInputs, S4dScanOutputs, object>,
  backend: WasmBackend,
): void {
  withSums(backend, inputs, { parts: inputs.x.shape[0], grads: gradInputs }, (args) => {
    const grads = [gradOutputs.y, gradOutputs.finalState, gradInputs.x, gradInputs.initialState].flatMap(place);
    const own = [...commonArgs(inputs, saved.chunkStarts), ...grads];
    backend.dispatch("s4dScanBackward", [...args, ...own], isSmall(inputs));
  });
}

function commonArgs({ x, D, initialState, documentStarts }: S4dScanInputs, chunkStarts: Tensor | undefined): number[] {
  const [batch, length] = x.shape;
  return [
    ...place(x),
    pointer(D),
    ...[initialState, documentStarts].flatMap(place),
    batch,
    length,
    pointer(chunkStarts),
  ];
}

function isSmall({ x, A_imag }: S4dScanInputs): boolean {
  return x.size * A_imag.columns < SERIAL_STEPS;
}
