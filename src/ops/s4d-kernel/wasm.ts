// s4dKernel on the WASM backend: binds kernels/assembly/s4d-kernel.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { S4dKernelInputs, S4dKernelOptions, S4dKernelOutputs } from "./index.ts";
import { place, withDiscrete, withSums } from "./wasm-parameters.ts";

/** Powers below which one thread is quicker alone. */
const SERIAL_POWERS = 1 << 12;
/** Words of the gradients' arguments, which the forward kernel passes over. */
const GRADIENT_WORDS = 10;

export function forward(
  { inputs, outputs: { kernel } }: ForwardCall<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions>,
  backend: WasmBackend,
): void {
  withDiscrete(backend, inputs, (args) => {
    const own = [...place(kernel), kernel.rows];
    const isSmall = kernel.size * inputs.A_imag.columns < SERIAL_POWERS;
    backend.dispatch("s4dKernel", [...args, ...Array<number>(GRADIENT_WORDS).fill(0), ...own], isSmall);
  });
}

export function backward(
  { inputs, gradOutputs, gradInputs }: BackwardCall<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions>,
  backend: WasmBackend,
): void {
  const { kernel: grad } = gradOutputs;
  if (!grad) return;
  withSums(backend, inputs, { parts: 1, grads: gradInputs }, (args) => {
    const isSmall = grad.size * inputs.A_imag.columns < SERIAL_POWERS;
    backend.dispatch("s4dKernelBackward", [...args, ...place(grad), grad.rows], isSmall);
  });
}
