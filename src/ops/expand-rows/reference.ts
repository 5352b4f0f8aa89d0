// expandRows on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { addTo, elementOf, setTo } from "../reference-elements.ts";
import type { ExpandRowsInputs, ExpandRowsOptions, ExpandRowsOutputs } from "./index.ts";

export function forward({
  inputs: { row },
  outputs: { y },
}: ForwardCall<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions>): void {
  for (let i = 0; i < y.rows; i++) for (let j = 0; j < y.columns; j++) setTo(y, i, j, elementOf(row, 0, j));
}

/** grad.row[j] += sum over rows of grad.y[j]. */
export function backward({
  gradOutputs: { y },
  gradInputs,
}: BackwardCall<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions>): void {
  if (!y) return;
  for (let i = 0; i < y.rows; i++) for (let j = 0; j < y.columns; j++) addTo(gradInputs.row, 0, j, elementOf(y, i, j));
}
