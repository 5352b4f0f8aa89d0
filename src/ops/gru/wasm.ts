// gru on the WASM backend: binds ../recurrent/wasm.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { backwardRecurrent, forwardRecurrent } from "../recurrent/wasm.ts";
import { backwardOf, forwardOf } from "./call.ts";
import type { GruInputs, GruOutputs } from "./index.ts";

export function forward(call: ForwardCall<GruInputs, GruOutputs, object>, backend: WasmBackend): void {
  forwardRecurrent(backend, forwardOf(call));
}

export function backward(call: BackwardCall<GruInputs, GruOutputs, object>, backend: WasmBackend): void {
  const wanted = backwardOf(call);
  if (wanted) backwardRecurrent(backend, wanted);
}
