// Transforms of sequences on the WebGPU backend: in workgroup memory where they fit, else in two passes. See README.md.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { gradientUse } from "../webgpu-elements.ts";
import { powerOfTwoFrom } from "./fft.ts";
import { fftColumns } from "./webgpu-columns.ts";
import type { RowsSpec } from "./webgpu-rows.ts";
import { fftRows } from "./webgpu-rows.ts";

/** Channels of a workgroup, at the most: a cache line of float32. */
const MOST_CHANNELS = 32;
const COMPLEX_BYTES = 8;

/** Workgroup memory for so many points with gaps between them. */
function bytesWithGaps(points: number): number {
  return (points + points / 16) * COMPLEX_BYTES;
}

/** How sequences of a length are transformed. */
export interface TransformPlan {
  /** Points of a transform: two steps each. */
  readonly total: number;
  /** Blocks that transforms are cut into, 1 where a workgroup's memory holds all of it; and points of a block. */
  readonly blocks: number;
  readonly points: number;
  /** Points of all channels of a workgroup, at the most. */
  readonly most: number;
  /** Whether there is room for gaps between them; see StagesSpec. */
  readonly isPadded: boolean;
}

/** @param mostPoints of a workgroup; default: what the device's memory for it holds, up to 4096 */
export function planOf(backend: WebGpuBackend, length: number, mostPoints?: number): TransformPlan {
  const room = backend.device.limits.maxComputeWorkgroupStorageSize;
  const most = mostPoints ?? (room >= bytesWithGaps(4096) ? 4096 : 2048);
  const isPadded = room >= bytesWithGaps(most);
  const total = Math.max(4, powerOfTwoFrom(length));
  // At least two channels, or too little of what is read together is used together.
  if (total <= most / 2) return { total, blocks: 1, points: total, most, isPadded };
  // A workgroup holds a transform of one point a block, or a pair of blocks.
  const blocks = 2 ** Math.ceil((Math.log2(total) + 1) / 2);
  return { total, blocks, points: total / blocks, most, isPadded };
}

/** Channels of a workgroup that holds so many points of each. */
function channelsOf({ most }: TransformPlan, points: number, channels: number): number {
  return Math.min(most / points, MOST_CHANNELS, powerOfTwoFrom(channels));
}

/** Bytes of a sequence's spectrum, of one channel. */
export function spectrumBytes({ total }: TransformPlan): number {
  return total * COMPLEX_BYTES;
}

/** The spectra `[sequences, total, channels]` (complex) of x `[sequences, length, channels]`. To be disposed of. */
export function spectraOf(backend: WebGpuBackend, plan: TransformPlan, x: Tensor): Tensor {
  const work = emptyTensor(backend, [x.shape[0] * plan.total, 2 * x.columns]);
  if (plan.blocks === 1) runRows(backend, plan, { like: x, way: "there", x, work });
  else {
    runColumns(backend, plan, { like: x, way: "there", x, work });
    runRows(backend, plan, { like: x, way: "there", work });
  }
  return work;
}

/** y (+)= the sequences whose spectra these are. Overwrites `work`. */
export function sequencesOf(backend: WebGpuBackend, plan: TransformPlan, work: Tensor, y: Tensor): void {
  if (plan.blocks === 1) return runRows(backend, plan, { like: y, way: "back", work, y });
  runRows(backend, plan, { like: y, way: "back", work });
  runColumns(backend, plan, { like: y, way: "back", work, y });
}

/** y (+)= x convolved (or correlated) with the kernel whose spectrum is given, + D x. */
export function convolveWith(
  backend: WebGpuBackend,
  plan: TransformPlan,
  call: { x: Tensor; y: Tensor; spectrum: Tensor; D: Tensor | undefined; isCorrelation: boolean; isForward: boolean },
): void {
  const { x, y, spectrum, D, isCorrelation, isForward } = call;
  const common = { like: x, spectrum, isCorrelation, isForward };
  if (plan.blocks === 1) return runRows(backend, plan, { ...common, way: "both", x, y, D });
  const work = emptyTensor(backend, [x.shape[0] * plan.total, 2 * x.columns]);
  runColumns(backend, plan, { like: x, way: "there", x, work });
  runRows(backend, plan, { ...common, way: "both", work });
  runColumns(backend, plan, { like: x, way: "back", x: D && x, y, work, D, isForward });
  work.dispose();
}

interface Run {
  readonly like: Tensor;
  readonly x?: Tensor | undefined;
  readonly y?: Tensor | undefined;
  readonly D?: Tensor | undefined;
  /** Whether y is an output, which is overwritten; else a gradient. */
  readonly isForward?: boolean;
}

function runRows(
  backend: WebGpuBackend,
  plan: TransformPlan,
  run: Run & { way: RowsSpec["way"]; work?: Tensor; spectrum?: Tensor; isCorrelation?: boolean },
): void {
  const { like, way, x, y, D, work, spectrum, isCorrelation = false } = run;
  const rows = plan.blocks === 1 ? 1 : 2;
  const [sequences, length, columns] = like.shape;
  const channels = channelsOf(plan, rows * plan.points, columns);
  const kernel = fftRows({
    size: plan.points,
    channels,
    rows,
    way,
    isCorrelation,
    x: x?.dtype,
    y: useOf(backend, run),
    hasD: D !== undefined,
    isPadded: plan.isPadded,
  });
  const buffers = {
    ...(x && { x }),
    ...(work && { work }),
    ...(spectrum && { spectrum }),
    ...(D && { D }),
    ...(y && { y }),
  };
  const groups = [Math.ceil(columns / channels), Math.max(1, plan.blocks / 2), sequences] as const;
  backend.dispatch(kernel, buffers, { length, channels: columns, total: plan.total }, groups);
}

function runColumns(
  backend: WebGpuBackend,
  plan: TransformPlan,
  run: Run & { way: "there" | "back"; work: Tensor },
): void {
  const { like, way, x, y, D, work } = run;
  const [sequences, length, columns] = like.shape;
  const channels = channelsOf(plan, plan.blocks, columns);
  const spec = {
    size: plan.blocks,
    channels,
    way,
    x: x?.dtype,
    y: useOf(backend, run),
    hasD: D !== undefined,
    isPadded: plan.isPadded,
  };
  const buffers = { ...(x && { x }), work, ...(D && { D }), ...(y && { y }) };
  const groups = [Math.ceil(columns / channels), plan.points, sequences] as const;
  backend.dispatch(fftColumns(spec), buffers, { length, channels: columns, total: plan.total }, groups);
}

function useOf(backend: WebGpuBackend, { y, isForward }: Run): RowsSpec["y"] {
  return y && isForward ? `write ${y.dtype}` : gradientUse(backend, y);
}
