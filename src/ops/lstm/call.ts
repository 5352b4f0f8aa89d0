// What an LSTM asks of ../recurrent, whatever the backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { RecurrentBackward, RecurrentForward } from "../recurrent/cells.ts";
import type { LstmInputs, LstmOutputs } from "./index.ts";

export function forwardOf({ inputs, outputs, saved }: ForwardCall<LstmInputs, LstmOutputs, object>): RecurrentForward {
  const { gates, weight, initialH, initialC, documentStarts } = inputs;
  const { activated, before } = saved ?? {};
  const bySequence = { gates, initialH, initialC, starts: documentStarts, ...outputs, activated, before };
  return { cell: "lstm", weight, bias: undefined, bySequence };
}

/** Undefined where no gradient came in. */
export function backwardOf({
  inputs,
  saved,
  gradOutputs,
  gradInputs,
}: BackwardCall<LstmInputs, LstmOutputs, object>): RecurrentBackward | undefined {
  const { y: gradY, finalH: gradFinalH, finalC: gradFinalC } = gradOutputs;
  if (!gradY && !gradFinalH && !gradFinalC) return undefined;
  const bySequence = {
    activated: saved.activated,
    before: saved.before,
    starts: inputs.documentStarts,
    gradY,
    gradFinalH,
    gradFinalC,
    gradGates: gradInputs.gates,
    gradInitialH: gradInputs.initialH,
    gradInitialC: gradInputs.initialC,
  };
  return { cell: "lstm", weight: inputs.weight, gradWeight: gradInputs.weight, gradBias: undefined, bySequence };
}
