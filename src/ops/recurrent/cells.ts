// What lstm and gru have in common on every device: the sizes of their cells, and what their passes take.
import type { Tensor } from "../../tensor/tensor.ts";

export type CellName = "lstm" | "gru";

/** Gates of a unit, and numbers of its state. */
export const GATES = { lstm: 4, gru: 3 } as const;
export const STATES = { lstm: 2, gru: 1 } as const;

/** A forward pass of either cell. All tensors that hold something by sequence have the batch as their first axis. */
export interface RecurrentForward {
  readonly cell: CellName;
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
  readonly bySequence: {
    readonly gates: Tensor;
    readonly initialH: Tensor | undefined;
    readonly initialC: Tensor | undefined;
    readonly starts: Tensor | undefined;
    readonly y: Tensor;
    readonly finalH: Tensor;
    readonly finalC: Tensor | undefined;
    /** Four numbers a unit for the backward pass, `[batch, length, 4 dHidden]`. */
    readonly activated: Tensor | undefined;
    /** The state before each token, `[batch, length, states · dHidden]`: h, and behind it c. */
    readonly before: Tensor | undefined;
  };
}

/** A backward pass of either cell; as {@link RecurrentForward}. */
export interface RecurrentBackward {
  readonly cell: CellName;
  readonly weight: Tensor;
  readonly gradWeight: Tensor | undefined;
  readonly gradBias: Tensor | undefined;
  readonly bySequence: {
    readonly activated: Tensor;
    readonly before: Tensor;
    readonly starts: Tensor | undefined;
    readonly gradY: Tensor | undefined;
    readonly gradFinalH: Tensor | undefined;
    readonly gradFinalC: Tensor | undefined;
    readonly gradGates: Tensor | undefined;
    readonly gradInitialH: Tensor | undefined;
    readonly gradInitialC: Tensor | undefined;
  };
}
