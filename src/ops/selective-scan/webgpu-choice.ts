// Chooses how a selective scan is laid out on a GPU: the only place where sizes are decided.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { ScanLayout } from "./webgpu-layout.ts";
import { backwardBytes } from "./webgpu-backward.ts";
import { forwardBytes, stateThreads } from "./webgpu-layout.ts";

/** Steps between the states that the forward pass saves for the backward pass on WebGPU. */
export const SAVE_EVERY = 16;
/** Threads that fill a large GPU. Sequences are cut into chunks until there are so many. */
const FILLING_THREADS = 49152;
/** Threads with which cutting sequences, that is doing half of the work twice, does not pay. */
const ENOUGH_THREADS = 36864;
/** Steps below which a chunk does not pay. */
const LEAST_CHUNK = 64;
/** Steps of a chunk of a very long sequence. */
const LONG_CHUNK = 1024;
/** What every WebGPU device has at the least: invocations and bytes of workgroup memory. */
const PORTABLE_INVOCATIONS = 256;
const PORTABLE_BYTES = 16384;
/** Steps whose states a thread of the backward pass holds in registers. */
const MOST_HELD = 8;
/** Threads of a workgroup whose subgroups sum over channels. */
const MOST_LANE_THREADS = 256;
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
  /** Whether the device is a processor, whose driver takes long to compile long kernels. */
  readonly isSoftware: boolean;
  /** Lanes of a subgroup, if they may sum over channels; else 0. See {@link lanesOf}. */
  readonly lanes: number;
}

/** Lanes of the device's subgroups, where all are alike and a block of channels can have as many; else 0. */
export function lanesOf(backend: WebGpuBackend): number {
  const [least, most] = backend.about.subgroupSize;
  return backend.has("subgroups") && least === most && least >= 8 && least <= 64 ? least : 0;
}

/** A layout, and into how many chunks a sequence is cut. */
export type ScanPlan = ScanLayout & { readonly chunks: number; readonly chunkSteps: number };

/**
 * A plan for the forward pass; `wanted` fixes parts of it, for measurements. Where channels alone give threads enough,
 * their states are shared out and no sequence is cut. Else time must be cut, which can give any number of threads: then
 * a thread holds 16 states, for fewer threads that all read the same.
 */
export function chooseForward(shape: ScanShape, wanted: WantedPlan = {}): ScanPlan {
  const { dState, dInner, sequences, steps } = shape;
  const stateVectors = Math.ceil(dState / 4);
  const shared = stateVectors <= 16 ? Math.ceil(stateVectors / 8) : 4;
  const isWhole = shape.isSoftware || sequences * dInner * stateThreads({ dState, vectors: shared }) >= ENOUGH_THREADS;
  const isCut = !isWhole && (wanted.chunks ?? 2) > 1 && steps >= 2 * LEAST_CHUNK;
  const vectors = wanted.vectors ?? (isCut ? Math.min(4, stateVectors) : shared);
  const threads = stateThreads({ dState, vectors });
  const channels = wanted.channels ?? channelsFor(shape, threads);
  const layout = { vectors, channels, unroll: 1 };
  let tile = wanted.steps ?? Math.min(steps <= 4 && !shape.isSoftware ? 4 : 16, mostSteps(shape, threads, channels));
  while (tile > 1 && forwardBytes({ ...layout, dState, steps: tile }) > PORTABLE_BYTES && !wanted.steps) tile /= 2;
  const unroll = Math.min(wanted.unroll ?? unrollFor(shape, vectors < 3 ? 16 : 4), tile);
  const filling = isWhole ? 1 : fillingChunks(shape, threads);
  // Very long sequences in more chunks than fill a GPU, which then are of 1024 steps or more.
  const count = isWhole ? 1 : Math.max(filling, Math.min(4 * filling, Math.floor(steps / LONG_CHUNK)));
  return { ...layout, unroll, steps: tile, ...chunksOf(shape, wanted.chunks ?? count) };
}

/** What may be fixed of a plan, for measurements. */
export type WantedPlan = Partial<
  ScanLayout & { readonly chunks: number; readonly round: number; readonly lanes: number; readonly sub: number }
>;

/** A plan for the backward pass. `bytes`: workgroup memory of the device. */
export function chooseBackward(
  shape: ScanShape,
  bytes: number,
  wanted: WantedPlan = {},
): ScanPlan & { readonly round: number; readonly lanes: number; readonly sub: number } {
  const { dState } = shape;
  const stateVectors = Math.ceil(dState / 4);
  const vectors = wanted.vectors ?? (stateVectors <= 16 ? Math.ceil(stateVectors / 8) : 4);
  const threads = stateThreads({ dState, vectors });
  const isByLanes = shape.lanes > 0 && shape.lanes * threads <= MOST_LANE_THREADS;
  const lanes = wanted.lanes ?? (isByLanes ? shape.lanes : 0);
  let channels = lanes || (wanted.channels ?? channelsFor(shape, threads));
  const preferred = Math.min(lanes > 0 ? 16 : 8, mostSteps(shape, threads, channels));
  let [steps, round] = [wanted.steps ?? preferred, wanted.round ?? 2];
  const isTooLarge = (): boolean =>
    backwardBytes({ vectors, channels, steps, unroll: 1, dState, round, lanes }) >
    (lanes > 0 ? bytes : Math.min(bytes, MOST_BYTES));
  while (!wanted.round && round > 1 && isTooLarge()) round /= 2;
  while (!wanted.steps && steps > 4 && isTooLarge()) steps /= 2;
  while (!wanted.channels && !lanes && channels > 4 && isTooLarge()) channels /= 2;
  const layout = {
    vectors,
    channels,
    steps,
    round,
    lanes,
    sub: lanes > 0 ? Math.min(steps, wanted.sub ?? (shape.isSoftware ? steps : MOST_HELD)) : steps,
    unroll: wanted.unroll ?? unrollFor(shape),
  };
  return { ...layout, ...chunksOf(shape, wanted.chunks ?? fillingChunks(shape, threads)) };
}

/** As many chunks as fill the GPU. */
function fillingChunks({ sequences, dInner, isSoftware }: ScanShape, threadsOfChannel: number): number {
  return isSoftware ? 1 : Math.ceil(FILLING_THREADS / (sequences * dInner * threadsOfChannel));
}

/** Chunks of one length, a multiple of {@link LEAST_CHUNK}: `wanted` of them where there is room. */
function chunksOf({ steps, mostChunks }: ScanShape, wanted: number): { chunks: number; chunkSteps: number } {
  const count = Math.max(1, Math.min(wanted, mostChunks, Math.floor(steps / LEAST_CHUNK)));
  const chunkSteps = Math.ceil(steps / count / LEAST_CHUNK) * LEAST_CHUNK;
  return { chunks: Math.ceil(steps / chunkSteps), chunkSteps };
}

/**
 * Channels of a workgroup: 128 threads, or up to 256; fewer where there are not so many channels, but 16 threads at the
 * least, one a step. Software adapters compile a kernel for each number, and gain nothing by it: few for every size.
 */
function channelsFor({ dInner, groups, isSoftware }: ScanShape, threadsOfChannel: number): number {
  const channelsOfGroup = isSoftware ? 1 : dInner / groups;
  let channels = 128;
  while (channels * threadsOfChannel > (threadsOfChannel <= 4 ? 128 : PORTABLE_INVOCATIONS)) channels /= 2;
  while (channels > 8 && channels / 2 >= channelsOfGroup && (channels / 2) * threadsOfChannel >= 16) channels /= 2;
  return channels;
}

/** Chunks for whose states one binding has room, beside the sequences. */
export function mostChunksOf(backend: WebGpuBackend, sequences: number, paddedStateSize: number): number {
  return Math.max(1, Math.floor((backend.maxBindingBytes - 512) / (4 * sequences * paddedStateSize)));
}

/**
 * Steps of a tile, of which every thread looks after one at the most. On software adapters as many as the threads load at
 * once, four channels each, so that the text of a load stands once.
 */
function mostSteps({ isSoftware }: ScanShape, threadsOfChannel: number, channels: number): number {
  const threads = isSoftware ? 4 * threadsOfChannel : channels * threadsOfChannel;
  return 2 ** Math.floor(Math.log2(threads));
}

function unrollFor({ isSoftware }: ScanShape, unroll = 4): number {
  return isSoftware ? 1 : unroll;
}
