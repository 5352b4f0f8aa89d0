// What of s4dScan one kernel takes at a time: sequences where tensors are larger than a binding, and steps where one
// sequence is; and how a piece is cut into chunks that run side by side.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { CHANNELS, LANES } from "../s4d-kernel/webgpu-parameters.ts";
import { rowsPerBinding } from "../webgpu-elements.ts";
import { CHUNK } from "./chunk.ts";

/** Sequences `b ...` and steps `step ...`; all steps where there is more than one sequence. */
export interface Piece {
  readonly b: number;
  readonly sequences: number;
  readonly step: number;
  readonly steps: number;
}

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly pairs: number;
}

/** Float32 numbers of partial sums of a pair. */
const SUMS = 6;
/** Workgroups that fill a GPU; from a quarter of them on, cutting time pays no longer, for it doubles the work. */
const WANTED_GROUPS = 1024;

/** Pieces whose tensors, saved states and partial sums fit into bindings, in their order. */
export function piecesOf(backend: WebGpuBackend, tensors: readonly Tensor[], sizes: Sizes): Piece[] {
  const { batch, length } = sizes;
  const stateBytes = sizes.channels * sizes.pairs * 8;
  const room = backend.maxBindingBytes - 512;
  const most = Math.max(CHUNK, Math.min(rowsPerBinding(backend, tensors), Math.floor(room / stateBytes) * CHUNK));
  const pieces: Piece[] = [];
  if (length <= most) {
    const ofSums = Math.floor(room / (stateBytes * (SUMS / 2)));
    const savedChunks = Math.ceil(length / CHUNK);
    const ofSaved = Math.floor(room / (stateBytes * savedChunks));
    const sequences = Math.max(1, Math.min(Math.floor(most / length), ofSums, ofSaved));
    for (let b = 0; b < batch; b += sequences)
      pieces.push({ b, sequences: Math.min(sequences, batch - b), step: 0, steps: length });
    return pieces;
  }
  const atOnce = Math.floor(most / CHUNK) * CHUNK;
  for (let b = 0; b < batch; b++)
    for (let step = 0; step < length; step += atOnce)
      pieces.push({ b, sequences: 1, step, steps: Math.min(atOnce, length - step) });
  return pieces;
}

/** Into how many chunks of how many steps a piece is cut. @param wanted chunks, for tests */
export function chunksOf(
  backend: WebGpuBackend,
  { sequences, steps }: Piece,
  { channels, pairs }: Sizes,
  wanted?: number,
): { chunks: number; chunkSteps: number } {
  const groups = Math.ceil(channels / CHANNELS) * sequences;
  const mostOfBinding = Math.floor((backend.maxBindingBytes - 512) / (sequences * channels * pairs * SUMS * 4));
  const isFull = backend.about.isSoftware || groups >= WANTED_GROUPS / 4;
  const chosen = wanted ?? (isFull ? 1 : Math.ceil(WANTED_GROUPS / groups));
  const count = Math.max(1, Math.min(chosen, mostOfBinding, Math.ceil(steps / CHUNK)));
  const chunkSteps = Math.ceil(steps / count / CHUNK) * CHUNK;
  return { chunks: Math.ceil(steps / chunkSteps), chunkSteps };
}

/** Pairs of a thread. */
export function threadPairs(pairs: number): number {
  return Math.ceil(pairs / LANES);
}

/** A piece of `[batch, length, channels]`. */
export function tokensOf<T extends Tensor | undefined>(tensor: T, { b, sequences, step, steps }: Piece): T {
  if (!tensor) return tensor;
  const [, length, channels] = tensor.shape;
  if (steps === length) return tensor.entries(b, sequences) as T;
  return tensor.rowsOf(b * length + step, steps).reshape([1, steps, channels]) as T;
}

/** A piece of `[batch, ...]`. */
export function statesOf<T extends Tensor | undefined>(tensor: T, { b, sequences }: Piece): T {
  return tensor?.entries(b, sequences) as T;
}

/** A piece of `[batch, length]`. */
export function startsOf(tensor: Tensor | undefined, { b, sequences, step, steps }: Piece): Tensor | undefined {
  return tensor?.entries(b, sequences).columnsOf(step, step + steps);
}

/** A piece of the saved states `[batch * saved chunks, ...]`. */
export function savedOf<T extends Tensor | undefined>(
  saved: T,
  { b, sequences, step, steps }: Piece,
  length: number,
): T {
  const savedChunks = Math.ceil(length / CHUNK);
  return saved?.rowsOf(b * savedChunks + step / CHUNK, sequences * Math.ceil(steps / CHUNK)) as T;
}
