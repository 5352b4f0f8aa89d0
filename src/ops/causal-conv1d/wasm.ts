// causalConv1d on the WASM backend: binds kernels/assembly/conv.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ConvInputs, ConvOptions, ConvOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;

export function forward(call: ForwardCall<ConvInputs, ConvOutputs, ConvOptions>, backend: WasmBackend): void {
  const { inputs, outputs, options } = call;
  const common = commonArgs(inputs, options);
  backend.dispatch("convForward", [...common, ...place(outputs.y)], inputs.x.size < SERIAL_ELEMENTS);
  backend.dispatch("convFinalState", [...common, ...place(outputs.finalState)], true);
}

export function backward(call: BackwardCall<ConvInputs, ConvOutputs, ConvOptions>, backend: WasmBackend): void {
  const { inputs, options, gradOutputs, gradInputs } = call;
  const args = [
    ...commonArgs(inputs, options),
    ...place(gradOutputs.y),
    ...place(gradOutputs.finalState),
    ...place(gradInputs.x),
    ...place(gradInputs.initialState),
    ...place(gradInputs.weight),
    pointer(gradInputs.bias),
  ];
  backend.dispatch("convBackward", args, inputs.x.size < SERIAL_ELEMENTS);
}

function commonArgs({ x, weight, bias, initialState, documentStarts }: ConvInputs, { silu }: ConvOptions): number[] {
  const [batch, length, channels] = x.shape;
  return [
    ...place(x),
    ...place(weight),
    pointer(bias),
    ...place(initialState),
    ...place(documentStarts),
    batch,
    length,
    channels,
    weight.columns,
    silu ? 1 : 0,
  ];
}

/** Address and row stride; 0, 0 for none. */
function place(tensor: Tensor | undefined): [number, number] {
  return [pointer(tensor), tensor?.rowStride ?? 0];
}
