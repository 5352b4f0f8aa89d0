// multiply on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { addTo, elementOf, setTo } from "../reference-elements.ts";
import type { MultiplyInputs, MultiplyOutputs } from "./index.ts";

export function forward({
  inputs: { a, b },
  outputs: { y },
}: ForwardCall<MultiplyInputs, MultiplyOutputs, object>): void {
  for (let row = 0; row < y.rows; row++)
    for (let column = 0; column < y.columns; column++)
      setTo(y, row, column, elementOf(a, row, column) * elementOf(b, row, column));
}

/** grad.a += grad.y b; grad.b += grad.y a. */
export function backward({
  inputs: { a, b },
  gradOutputs: { y: gradY },
  gradInputs,
}: BackwardCall<MultiplyInputs, MultiplyOutputs, object>): void {
  if (!gradY) return;
  for (let row = 0; row < a.rows; row++)
    for (let column = 0; column < a.columns; column++) {
      const g = elementOf(gradY, row, column);
      addTo(gradInputs.a, row, column, g * elementOf(b, row, column));
      addTo(gradInputs.b, row, column, g * elementOf(a, row, column));
    }
}
