// How the WebGPU kernels of causalConv1d cut their work: pieces that a binding holds, and stretches of time for threads.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ConvInputs } from "./index.ts";

/** Threads for which time is cut into stretches, about; and steps of a stretch at the most and at the least. */
const THREADS = 1 << 18;
const MOST_STEPS = 64;
const LEAST_STEPS = 8;
const FORWARD_AT_ONCE = 8;
const BACKWARD_AT_ONCE = 4;

/** A piece of x that a binding holds: whole sequences, or a part of one. */
export interface Piece {
  readonly entry: number;
  readonly entries: number;
  readonly time: number;
  readonly steps: number;
  /** Whether its sequences begin, and whether they end in it. */
  readonly isFirst: boolean;
  readonly isLast: boolean;
}

/** Cuts `[batch, length, channels]` where a binding holds only so many rows of it. */
export function piecesOf(mostRows: number, [batch, length]: readonly number[]): Piece[] {
  const pieces: Piece[] = [];
  const entriesAtOnce = Math.max(1, Math.min(batch, Math.floor(mostRows / length)));
  const stepsAtOnce = Math.min(length, mostRows);
  for (let entry = 0; entry < batch; entry += entriesAtOnce)
    for (let time = 0; time < length; time += stepsAtOnce) {
      const entries = Math.min(entriesAtOnce, batch - entry);
      const steps = Math.min(stepsAtOnce, length - time);
      pieces.push({ entry, entries, time, steps, isFirst: time === 0, isLast: time + steps === length });
    }
  return pieces;
}

/** A piece of a tensor `[batch, length, channels]`. */
export function cut(tensor: Tensor, { entry, entries, time, steps }: Piece): Tensor {
  const own = tensor.entries(entry, entries);
  return steps === tensor.shape[1] ? own : own.rowsOf(time, steps).reshape([1, steps, tensor.columns]);
}

/** The entries of a state that belong to a piece. */
export function entriesOf(state: Tensor, { entry, entries }: Piece): Tensor {
  return state.entries(entry, entries);
}

/** The inputs of a piece. @param state what is before it, where it is not the first of its sequences */
export function cutInputs(inputs: ConvInputs, piece: Piece, state: Tensor | undefined): ConvInputs {
  const { entry, entries, time, steps, isFirst } = piece;
  return {
    ...inputs,
    x: cut(inputs.x, piece),
    initialState: isFirst ? inputs.initialState && entriesOf(inputs.initialState, piece) : state,
    documentStarts: inputs.documentStarts?.entries(entry, entries).columnsOf(time, time + steps),
  };
}

/** How time is divided. */
export interface ConvPlan {
  /** Steps of a thread. */
  readonly steps: number;
  /** Steps whose inputs are read before the first of them is used. */
  readonly atOnce: number;
}

/**
 * Many steps a thread, so that little is read twice; few, where there are few threads. They follow from the shape alone. A
 * software adapter unrolls less, for its compiler takes seconds for each step.
 */
export function planOf(backend: WebGpuBackend, vectors: number, length: number, isBackward = false): ConvPlan {
  const wanted = Math.ceil((vectors * length) / THREADS / LEAST_STEPS) * LEAST_STEPS;
  return {
    steps: Math.min(length, MOST_STEPS, Math.max(LEAST_STEPS, wanted)),
    atOnce: backend.about.isSoftware ? 2 : isBackward ? BACKWARD_AT_ONCE : FORWARD_AT_ONCE,
  };
}

/** Those tensors that are there. */
export function presentOf(tensors: Record<string, Tensor | undefined>): Record<string, Tensor> {
  const entries = Object.entries(tensors).filter((entry): entry is [string, Tensor] => entry[1] !== undefined);
  return Object.fromEntries(entries);
}
