// Chooses how a selective scan is laid out on a GPU: the only place where sizes are decided.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { ScanLayout } from "./webgpu-layout.ts";
import { backwardBytes } from "./webgpu-backward.ts";
import { forwardBytes, stateThreads } from "./webgpu-layout.ts";

/** Steps between the states that the forward pass saves for the backward pass on WebGPU. */
export const SAVE_EVERY = 64;
/** Threads that fill a large GPU. Sequences are cut into chunks until there are so many. */
const FILLING_THREADS = 40960;
/** Steps below which a chunk does not pay. */
const LEAST_CHUNK = 64;
/** What every WebGPU device has at the least: invocations and bytes of workgroup memory. */
const PORTABLE_INVOCATIONS = 256;
const PORTABLE_BYTES = 16384;
/** Bytes of workgroup memory beyond which too few workgroups share a processor. */
const MOST_BYTES = 32768;

/** What a choice depends on. */
export interface ScanShape {
  readonly sequences: number;
  readonly steps: number;
  readonly dInner: number;
  readonly dState: number;
  readonly groups: number;
  /** Chunks for whose states there is room. */
  readonly mostChunks: number;
}

/** A layout, and into how many chunks a sequence is cut. */
export type ScanPlan = ScanLayout & { readonly chunks: number; readonly chunkSteps: number };

/** A plan for the forward pass; `wanted` fixes parts of it, for measurements. */
export function chooseForward(shape: ScanShape, wanted: WantedPlan = {}): ScanPlan {
  const { dState, steps } = shape;
  const stateVectors = Math.ceil(dState / 4);
  const vectors = wanted.vectors ?? (stateVectors <= 16 ? Math.ceil(stateVectors / 8) : 4);
  const threads = stateThreads({ dState, vectors });
  const channels = wanted.channels ?? channelsFor(threads, shape.dInner / shape.groups);
  const layout = { vectors, channels, polynomial: wanted.polynomial ?? 0 };
  let tile = wanted.steps ?? (steps <= 4 ? 4 : 16);
  while (tile > 1 && forwardBytes({ ...layout, dState, steps: tile }) > PORTABLE_BYTES && !wanted.steps) tile /= 2;
  return { ...layout, steps: tile, ...chooseChunks(shape, threads, wanted.chunks) };
}

/** What may be fixed of a plan, for measurements. */
export type WantedPlan = Partial<ScanLayout & { readonly chunks: number; readonly round: number }>;

/** A plan for the backward pass. `bytes`: workgroup memory of the device. */
export function chooseBackward(
  shape: ScanShape,
  bytes: number,
  wanted: WantedPlan = {},
): ScanPlan & { readonly round: number } {
  const { dState } = shape;
  const stateVectors = Math.ceil(dState / 4);
  const vectors = wanted.vectors ?? (stateVectors <= 16 ? Math.ceil(stateVectors / 8) : 4);
  const threads = stateThreads({ dState, vectors });
  let channels = wanted.channels ?? channelsFor(threads, shape.dInner / shape.groups);
  let [steps, round] = [wanted.steps ?? 8, wanted.round ?? 2];
  const isTooLarge = (): boolean =>
    backwardBytes({ vectors, channels, steps, polynomial: 0, dState, round }) > Math.min(bytes, MOST_BYTES);
  while (!wanted.round && round > 1 && isTooLarge()) round /= 2;
  while (!wanted.steps && steps > 4 && isTooLarge()) steps /= 2;
  while (!wanted.channels && channels > 4 && isTooLarge()) channels /= 2;
  const layout = { vectors, channels, steps, round, polynomial: wanted.polynomial ?? 0 };
  return { ...layout, ...chooseChunks(shape, threads, wanted.chunks) };
}

/** Chunks of one length, a multiple of {@link LEAST_CHUNK}, as many as fill the GPU. */
export function chooseChunks(
  { sequences, steps, dInner, mostChunks }: ScanShape,
  threadsOfChannel: number,
  wanted?: number,
): { chunks: number; chunkSteps: number } {
  const filling = Math.ceil(FILLING_THREADS / (sequences * dInner * threadsOfChannel));
  const count = Math.max(1, Math.min(wanted ?? filling, mostChunks, Math.floor(steps / LEAST_CHUNK)));
  const chunkSteps = Math.ceil(steps / count / LEAST_CHUNK) * LEAST_CHUNK;
  return { chunks: Math.ceil(steps / chunkSteps), chunkSteps };
}

/** Channels of a workgroup: 128 threads, or up to 256; fewer where there are not so many channels, but 16 threads at the least, one a step. */
function channelsFor(threadsOfChannel: number, channelsOfGroup: number): number {
  let channels = 64;
  while (channels * threadsOfChannel > (threadsOfChannel <= 4 ? 128 : PORTABLE_INVOCATIONS)) channels /= 2;
  while (channels > 8 && channels / 2 >= channelsOfGroup && (channels / 2) * threadsOfChannel >= 16) channels /= 2;
  return channels;
}

/** Chunks for whose states one binding has room, beside the sequences. */
export function mostChunksOf(backend: WebGpuBackend, sequences: number, paddedStateSize: number): number {
  return Math.max(1, Math.floor((backend.maxBindingBytes - 512) / (4 * sequences * paddedStateSize)));
}
