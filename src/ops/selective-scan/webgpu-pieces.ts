// Cuts a selective scan where a tensor is larger than a binding: by sequences, and a long sequence by its length, the
// state being carried from piece to piece.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** Steps [step, step + steps) of sequences [sequence, sequence + sequences). Several sequences only when they are whole. */
export interface ScanPiece {
  readonly sequence: number;
  readonly sequences: number;
  readonly step: number;
  readonly steps: number;
}

/** A binding begins at a multiple of 256 bytes and ends at one of 16. */
const ALIGNMENT_BYTES = 512;
/** Sequences are counted along an axis of workgroups. */
const MOST_SEQUENCES = 65535;

export interface CutSizes {
  readonly batch: number;
  readonly length: number;
  /** Elements of one state, `dInner * dState`, padded. */
  readonly stateSize: number;
  /** Steps between saved states, of which pieces are multiples. */
  readonly saveEvery: number;
  /** Whether a state in `saveEvery` steps is stored. */
  readonly isSaving: boolean;
  /** Rows for which there is room elsewhere. */
  readonly mostRows?: number;
}

/** The pieces of a scan, in order. `tokens` are its tensors with a row a token. */
export function cutScan(
  backend: WebGpuBackend,
  tokens: readonly (Tensor | undefined)[],
  { batch, length, stateSize, saveEvery, isSaving, mostRows = Infinity }: CutSizes,
): ScanPiece[] {
  const room = backend.maxBindingBytes - ALIGNMENT_BYTES;
  const bytesOfRows = tokens.map((tensor) => (tensor ? tensor.rowStride * BYTES_PER_ELEMENT[tensor.dtype] : 0));
  const rows = Math.min(mostRows, Math.floor(room / Math.max(...bytesOfRows)));
  const states = Math.max(1, Math.floor(room / (4 * stateSize)));
  const most = isSaving ? Math.min(rows, states * saveEvery) : rows;
  const pieces: ScanPiece[] = [];
  if (length <= most) {
    const sequencesAtOnce = Math.min(Math.max(1, Math.floor(most / length)), states, MOST_SEQUENCES);
    for (let sequence = 0; sequence < batch; sequence += sequencesAtOnce)
      pieces.push({ sequence, sequences: Math.min(sequencesAtOnce, batch - sequence), step: 0, steps: length });
    return pieces;
  }
  // Pieces of equal length, in whole chunks.
  const count = Math.ceil(length / Math.max(saveEvery, Math.floor(most / saveEvery) * saveEvery));
  const stepsAtOnce = Math.ceil(length / count / saveEvery) * saveEvery;
  for (let sequence = 0; sequence < batch; sequence++)
    for (let step = 0; step < length; step += stepsAtOnce)
      pieces.push({ sequence, sequences: 1, step, steps: Math.min(stepsAtOnce, length - step) });
  return pieces;
}

/** The rows of a piece in a tensor `[batch, length, columns]`. */
export function tokensOf<T extends Tensor | undefined>(tensor: T, piece: ScanPiece, length: number): T {
  const { sequence, sequences, step, steps } = piece;
  return tensor?.rowsOf(sequence * length + step, sequences === 1 ? steps : sequences * steps) as T;
}

/** The rows of a piece in a tensor `[batch, dInner, dState]`. */
export function statesOf<T extends Tensor | undefined>(tensor: T, { sequence, sequences }: ScanPiece): T {
  if (!tensor) return tensor;
  const dInner = tensor.shape[1];
  return tensor.rowsOf(sequence * dInner, sequences * dInner) as T;
}

/** The rows of a piece in saved states `[batch, chunks, dInner, dState]`. */
export function savedOf<T extends Tensor | undefined>(tensor: T, piece: ScanPiece, saveEvery: number): T {
  if (!tensor) return tensor;
  const [, chunks, dInner] = tensor.shape;
  const { sequence, sequences, step, steps } = piece;
  const count = sequences === 1 ? Math.ceil(steps / saveEvery) : sequences * chunks;
  return tensor.rowsOf((sequence * chunks + step / saveEvery) * dInner, count * dInner) as T;
}

/** The part of documentStarts `[batch, length]`. */
export function startsOf<T extends Tensor | undefined>(tensor: T, { sequence, sequences, step, steps }: ScanPiece): T {
  return tensor?.entries(sequence, sequences).columnsOf(step, step + steps) as T;
}
