// advanceLengths on the WASM backend: binds kernels/assembly/cache.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { AdvanceLengthsInputs, AdvanceLengthsOptions, AdvanceLengthsOutputs } from "./index.ts";

export function forward(
  {
    inputs: { lengths },
    options: { by },
  }: ForwardCall<AdvanceLengthsInputs, AdvanceLengthsOutputs, AdvanceLengthsOptions>,
  backend: WasmBackend,
): void {
  backend.dispatch("advanceLengths", [pointer(lengths), lengths.size, by], true);
}
