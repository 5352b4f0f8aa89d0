// What a GRU asks of ../recurrent, whatever the backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { RecurrentBackward, RecurrentForward } from "../recurrent/cells.ts";
import type { GruInputs, GruOutputs } from "./index.ts";

const NO_C = { initialC: undefined, finalC: undefined } as const;

export function forwardOf({ inputs, outputs, saved }: ForwardCall<GruInputs, GruOutputs, object>): RecurrentForward {
  const { gates, weight, bias, initialH, documentStarts } = inputs;
  const { activated, before } = saved ?? {};
  const bySequence = { gates, initialH, starts: documentStarts, ...outputs, ...NO_C, activated, before };
  return { cell: "gru", weight, bias, bySequence };
}

/** Undefined where no gradient came in. */
export function backwardOf({
  inputs,
  saved,
  gradOutputs,
  gradInputs,
}: BackwardCall<GruInputs, GruOutputs, object>): RecurrentBackward | undefined {
  const { y: gradY, finalH: gradFinalH } = gradOutputs;
  if (!gradY && !gradFinalH) return undefined;
  const bySequence = {
    activated: saved.activated,
    before: saved.before,
    starts: inputs.documentStarts,
    gradY,
    gradFinalH,
    gradFinalC: undefined,
    gradGates: gradInputs.gates,
    gradInitialH: gradInputs.initialH,
    gradInitialC: undefined,
  };
  return { cell: "gru", weight: inputs.weight, gradWeight: gradInputs.weight, gradBias: gradInputs.bias, bySequence };
}
