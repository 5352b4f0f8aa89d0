// lstm on the WASM backend: binds ../recurrent/wasm.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { backwardRecurrent, forwardRecurrent } from "../recurrent/wasm.ts";
import { backwardOf, forwardOf } from "./call.ts";
import type { LstmInputs, LstmOutputs } from "./index.ts";

export function forward(call: ForwardCall<LstmInputs, LstmOutputs, object>, backend: WasmBackend): void {
  forwardRecurrent(backend, forwardOf(call));
}

export function backward(call: BackwardCall<LstmInputs, LstmOutputs, object>, backend: WasmBackend): void {
  const wanted = backwardOf(call);
  if (wanted) backwardRecurrent(backend, wanted);
}
