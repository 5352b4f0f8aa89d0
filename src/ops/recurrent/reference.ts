// What the references of lstm and gru share.
import type { Tensor } from "../../tensor/tensor.ts";
import { elementOf } from "../reference-elements.ts";

export function sigmoid(v: number): number {
  return 1 / (1 + Math.exp(-v));
}

/** A row of a state `[batch, dHidden]`; zeros where there is none. */
export function stateOf(state: Tensor | undefined, sequence: number, dHidden: number): number[] {
  return Array.from({ length: dHidden }, (_, k) => (state ? elementOf(state, sequence, k) : 0));
}

/** W h, one number a row of W. */
export function timesState(weight: Tensor, h: readonly number[]): number[] {
  return Array.from({ length: weight.rows }, (_, row) =>
    h.reduce((sum, value, k) => sum + elementOf(weight, row, k) * value, 0),
  );
}

/** Wᵀ g, one number a column of W. */
export function timesTransposed(weight: Tensor, g: readonly number[]): number[] {
  return Array.from({ length: weight.columns }, (_, k) =>
    g.reduce((sum, value, row) => sum + elementOf(weight, row, k) * value, 0),
  );
}

/** Whether a state is forgotten before token t of a sequence. */
export function isStart(documentStarts: Tensor | undefined, sequence: number, t: number): boolean {
  return documentStarts !== undefined && elementOf(documentStarts, sequence, t) !== 0;
}
