// lstm on the WASM backend: binds ../recurrent/wasm.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { backwardRecurrent, forwardRecurrent } from "../recurrent/wasm.ts";
import type { LstmInputs, LstmOutputs } from "./index.ts";

export function forward(
  { inputs, outputs, saved }: ForwardCall<LstmInputs, LstmOutputs, object>,
  backend: WasmBackend,
): void {
  const { gates, weight, initialH, initialC, documentStarts } = inputs;
  const { activated, before } = saved ?? {};
  const bySequence = { gates, initialH, initialC, starts: documentStarts, ...outputs, activated, before };
  forwardRecurrent(backend, { cell: "lstm", weight, bias: undefined, bySequence });
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<LstmInputs, LstmOutputs, object>,
  backend: WasmBackend,
): void {
  const { y: gradY, finalH: gradFinalH, finalC: gradFinalC } = gradOutputs;
  if (!gradY && !gradFinalH && !gradFinalC) return;
  const { activated, before } = saved;
  const bySequence = {
    activated,
    before,
    starts: inputs.documentStarts,
    gradY,
    gradFinalH,
    gradFinalC,
    gradGates: gradInputs.gates,
    gradInitialH: gradInputs.initialH,
    gradInitialC: gradInputs.initialC,
  };
  const call = { weight: inputs.weight, gradWeight: gradInputs.weight, gradBias: undefined, bySequence };
  backwardRecurrent(backend, { cell: "lstm", ...call });
}
