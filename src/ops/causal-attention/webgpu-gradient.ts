// causalAttention on WebGPU, backward: probabilities are computed again tile by tile, once for the gradient of queries and
// once for those of keys and values, so that no two workgroups add to one place. See README.md.
import type { Kernel, KernelFamily, Place, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { vectorUse, WORKGROUP } from "../webgpu-elements.ts";
import { headsOf } from "./heads.ts";
import type { AttentionInputs, AttentionOptions, AttentionOutputs } from "./index.ts";
import { attentionGradKv } from "./webgpu-gradient-kv.ts";
import { attentionMatrixGradient, gradientBytes, MOST_GRADIENT } from "./webgpu-matrix-gradient.ts";
import { PART_ROWS, suitsUnits } from "./webgpu-matrix-tiles.ts";
import type { Tile } from "./webgpu-tiles.ts";
import {
  addWeighted,
  declareSums,
  each,
  headReader,
  headWriter,
  multiplyHeads,
  sizesOf,
  storeSums,
  storeWeights,
  TILE_ENTRY,
  tileFor,
  tileHeader,
  tileUse,
} from "./webgpu-tiles.ts";
import { FIRST_VISIBLE } from "./webgpu-visible.ts";
import type { Units } from "./webgpu.ts";
import { headWidthOf, splitBatch } from "./webgpu.ts";

type Call = BackwardCall<AttentionInputs, AttentionOutputs, AttentionOptions>;

export function backward(
  { inputs, outputs, saved, options, gradOutputs, gradInputs }: Call,
  backend: WebGpuBackend,
  wanted?: Units,
): void {
  const { y: gradY } = gradOutputs;
  const { q: gradQ, k: gradK, v: gradV } = gradInputs;
  if (!gradY) return;
  const all = { ...inputs, y: outputs.y, logSum: saved.logSum, gradY, gradQ, gradK, gradV };
  splitBatch(backend, all, (parts) =>
    scope(() => {
      const mean = emptyTensor(backend, parts.logSum.shape);
      const pass = { ...parts, mean, units: wanted ?? unitsFor(backend, parts, options) };
      dispatchMean(backend, pass, options);
      if (pass.gradQ) dispatchGradQ(backend, pass, options);
      dispatchGradKv(backend, pass, options);
    }),
  );
}

type Pass = AttentionInputs & {
  readonly y: Tensor;
  readonly logSum: Tensor;
  readonly gradY: Tensor;
  readonly gradQ: Tensor | undefined;
  readonly gradK: Tensor | undefined;
  readonly gradV: Tensor | undefined;
  /** For each query and head, the sum of p dp = grad.y · y. */
  readonly mean: Tensor;
  /** Set where matrix units take the pass. */
  readonly units: Units | undefined;
};

/** Subgroups of a workgroup, each with 32 rows: as many as fit 48 KiB with heads of 64 channels. */
const SUBGROUPS = 2;

function unitsFor(
  backend: WebGpuBackend,
  { q, k, v, gradY, gradQ, gradK, gradV }: Omit<Pass, "mean" | "units">,
  { headDim }: AttentionOptions,
): Units | undefined {
  const units = { subgroups: SUBGROUPS, emulated: false };
  const { maxComputeWorkgroupStorageSize: most } = backend.device.limits;
  const suits =
    suitsUnits(backend, { length: q.shape[1], headDim, most: MOST_GRADIENT }, q, k, v, gradY) &&
    headWidthOf(headDim, gradQ, gradK, gradV) === 4 &&
    gradientBytes({ ...units, headDim }) <= most;
  return suits ? units : undefined;
}

function dispatchMean(backend: WebGpuBackend, { y, gradY, mean }: Pass, { headDim }: AttentionOptions): void {
  const width = headWidthOf(headDim, y, gradY);
  const kernel = attentionMean({ y: y.dtype, gradY: gradY.dtype, width, headDim });
  const heads = mean.columns;
  backend.dispatch(kernel, { y, gradY, mean }, { rows: mean.rows, heads }, groupsFor(mean.rows * heads, WORKGROUP));
}

/** What both passes read. */
function shared({ q, k, v, gradY, logSum, mean, firstVisible }: Pass): { [name: string]: Tensor } {
  return { q, k, v, gradY, logSum, mean, ...(firstVisible && { firstVisible }) };
}

function dispatchGradQ(
  backend: WebGpuBackend,
  pass: Pass,
  { headDim, scale = headDim ** -0.5 }: AttentionOptions,
): void {
  const { q, k, v, gradY, firstVisible } = pass;
  const gradQ = pass.gradQ!;
  const { batch, length, nHeads, group } = headsOf("causalAttention", pass, headDim);
  const grad = useOf(backend, gradQ, gradQ.dtype);
  const documents = firstVisible !== undefined;
  if (pass.units) {
    const kernel = attentionMatrixGradient({ ...NO_GRADIENTS, ...pass.units, headDim, documents, gradQ: grad });
    return dispatchUnits(backend, pass, kernel, { headDim, scale, places: { gradQ }, heads: nHeads });
  }
  const tile = tileFor(backend, length, headDim);
  const kernel = attentionGradQ({
    ...tile,
    q: q.dtype,
    k: k.dtype,
    v: v.dtype,
    gradY: gradY.dtype,
    grad,
    width: headWidthOf(headDim, q, k, v, gradY, gradQ),
    headDim,
    documents,
  });
  const groups = [Math.ceil(length / tile.tileRows), nHeads, batch] as const;
  backend.dispatch(kernel, { ...shared(pass), gradQ }, { length, head: Math.ceil(headDim / 4), group, scale }, groups);
}

/** The gradients of k and v are often halves of one tensor: then they are written together, as one buffer. */
function dispatchGradKv(backend: WebGpuBackend, pass: Pass, options: AttentionOptions): void {
  const { gradK, gradV } = pass;
  if (!gradK && !gradV) return;
  const places: { [name: string]: Place } = { ...(gradK && { gradK }), ...(gradV && { gradV }) };
  if (!gradK || !gradV || gradK.storage !== gradV.storage) return dispatchPlaces(backend, pass, places, options);
  if (isBeside(gradK, gradV)) {
    const { storage, rowStride, rows, columns } = gradK;
    const offset = Math.min(gradK.offset, gradV.offset);
    return dispatchPlaces(
      backend,
      pass,
      { grads: { storage, offset, rowStride, rows, columns: 2 * columns } },
      options,
    );
  }
  dispatchPlaces(backend, pass, { gradK }, options);
  dispatchPlaces(backend, pass, { gradV }, options);
}

/** Whether two views are neighbouring columns of one tensor. */
function isBeside(a: Tensor, b: Tensor): boolean {
  return a.rowStride === b.rowStride && Math.abs(a.offset - b.offset) === a.columns && a.rowStride >= 2 * a.columns;
}

function dispatchPlaces(
  backend: WebGpuBackend,
  pass: Pass,
  places: { readonly [name: string]: Place },
  { headDim, scale = headDim ** -0.5 }: AttentionOptions,
): void {
  const { q, k, v, gradY, firstVisible, gradK, gradV } = pass;
  const { batch, length, nKvHeads, group } = headsOf("causalAttention", pass, headDim);
  const tile = tileFor(backend, length, headDim);
  const { dtype } = (gradK ?? gradV)!;
  const { grads } = places;
  const skips = { skipK: grads ? gradK!.offset - grads.offset : 0, skipV: grads ? gradV!.offset - grads.offset : 0 };
  const what = {
    gradK: places.gradK && useOf(backend, places.gradK, dtype),
    gradV: places.gradV && useOf(backend, places.gradV, gradV!.dtype),
    grads: grads && useOf(backend, grads, dtype),
    headDim,
    documents: firstVisible !== undefined,
  };
  if (pass.units) {
    const kernel = attentionMatrixGradient({ ...NO_GRADIENTS, ...pass.units, ...what });
    return dispatchUnits(backend, pass, kernel, { headDim, scale, places, heads: nKvHeads, ...skips });
  }
  const kernel = attentionGradKv({
    ...tile,
    ...what,
    q: q.dtype,
    k: k.dtype,
    v: v.dtype,
    gradY: gradY.dtype,
    width: headWidthOf(headDim, q, k, v, gradY, gradK, gradV),
  });
  const groups = [Math.ceil(length / tile.tileRows), nKvHeads, batch] as const;
  backend.dispatch(
    kernel,
    { ...shared(pass), ...places },
    { length, head: Math.ceil(headDim / 4), group, scale, ...skips },
    groups,
  );
}

const NO_GRADIENTS = { gradQ: undefined, gradK: undefined, gradV: undefined, grads: undefined };

interface UnitsCall extends AttentionOptions {
  readonly places: { readonly [name: string]: Place };
  /** Heads of the rows. */
  readonly heads: number;
  readonly skipK?: number;
  readonly skipV?: number;
}

function dispatchUnits(
  backend: WebGpuBackend,
  pass: Pass,
  kernel: Kernel,
  { headDim, scale = headDim ** -0.5, places, heads, skipK = 0, skipV = 0 }: UnitsCall,
): void {
  const { batch, length, group } = headsOf("causalAttention", pass, headDim);
  const groups = [Math.ceil(length / (PART_ROWS * pass.units!.subgroups)), heads, batch] as const;
  backend.dispatch(kernel, { ...shared(pass), ...places }, { length, group, scale, skipK, skipV, steps: 1 }, groups);
}

function useOf(backend: WebGpuBackend, place: Place, dtype: string): BufferUse {
  return `${backend.hasContent(place) ? "add" : "write"} ${dtype}`;
}

type MeanSpec = { y: string; gradY: string; width: VectorWidth; headDim: number };

/** mean[row, head] = grad.y · y over the channels of the head. */
const attentionMean: KernelFamily<MeanSpec> = defineKernel<MeanSpec>(
  "attentionMean",
  [
    { y: "f32", gradY: "f32", width: 4, headDim: 64 },
    { y: "f16", gradY: "f16", width: 1, headDim: 6 },
  ],
  ({ y, gradY, width, headDim }) => ({
    buffers: {
      y: tileUse("read", y, width),
      gradY: tileUse("read", gradY, width),
      mean: "write f32",
    },
    params: ["rows", "heads"],
    body: /* wgsl */ `${headReader("y", width, headDim)}${headReader("gradY", width, headDim)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.rows * params.heads) { return; }
  let row = i / params.heads;
  let head = i % params.heads;
  var sum = 0.0;
  for (var part = 0u; part < ${Math.ceil(headDim / 4)}u; part++) {
    let grad = read_gradY(params.gradY_at + head * ${headDim}u, row, params.rows, part);
    sum += dot(grad, read_y(params.y_at + head * ${headDim}u, row, params.rows, part));
  }
  mean[params.mean_at + row * params.mean_stride + head] = sum;
}`,
  }),
);

type GradQSpec = Tile & {
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly gradY: string;
  readonly grad: BufferUse;
  readonly width: VectorWidth;
  readonly headDim: number;
  readonly documents: boolean;
};

const SMALL = { tileRows: 32, tileColumns: 32, steps: 16, threadRows: 4 };
const SAMPLE = { ...SMALL, q: "f32", k: "f32", v: "f32", gradY: "f32", width: 4, headDim: 64 } as const;

/** Workgroups: tiles of queries, heads, batch. */
const attentionGradQ: KernelFamily<GradQSpec> = defineKernel<GradQSpec>(
  "attentionGradQ",
  [
    { ...SAMPLE, tileRows: 64, tileColumns: 64, steps: 32, grad: "write f32", documents: true },
    { ...SAMPLE, q: "f16", k: "f16", v: "f16", gradY: "f16", grad: "add f16", documents: false },
    { ...SAMPLE, width: 1, headDim: 6, grad: "add f32", documents: false },
  ],
  (spec) => ({
    buffers: {
      ...headBuffers(spec),
      ...(spec.documents && { firstVisible: "read i32" }),
      gradQ: vectorUse(spec.grad, spec.width),
    },
    params: ["length", "head", "group", "scale: f32"],
    body: gradQBody(spec),
  }),
);

/** Buffers that both passes read. */
export function headBuffers(spec: Omit<GradQSpec, "grad">): { [name: string]: BufferUse } {
  const { width } = spec;
  return {
    q: tileUse("read", spec.q, width),
    k: tileUse("read", spec.k, width),
    v: tileUse("read", spec.v, width),
    gradY: tileUse("read", spec.gradY, width),
    logSum: "read f32",
    mean: "read f32",
  };
}

function gradQBody(spec: GradQSpec): string {
  const { width, headDim, threadRows, documents } = spec;
  const { own } = sizesOf(spec, headDim);
  const key = { first: "key", end: "end" };
  const query = { first: "tile_row", end: "params.length" };
  const row = (r: number): string => `min(tile_row + down * THREAD_ROWS + ${r}u, params.length - 1u)`;
  return /* wgsl */ `${tileHeader(spec, headDim)}
${["q", "k", "v", "gradY"].map((name) => headReader(name, width, headDim)).join("")}
${headWriter("gradQ", spec.grad, width, headDim)}
${documents ? FIRST_VISIBLE : ""}
${TILE_ENTRY}
  let tile_row = (groups.x - 1u - group.x) * ROWS;
  let head = group.y;
  let sequence = group.z;
  let end = min(params.length, tile_row + ROWS);
  let first_row = sequence * params.length;
  let q_base = params.q_at + first_row * params.q_stride + head * HEAD_DIM;
  let gradY_base = params.gradY_at + first_row * params.gradY_stride + head * HEAD_DIM;
  let gradQ_base = params.gradQ_at + first_row * params.gradQ_stride + head * HEAD_DIM;
  let k_base = params.k_at + first_row * params.k_stride + head / params.group * HEAD_DIM;
  let v_base = params.v_at + first_row * params.v_stride + head / params.group * HEAD_DIM;
  let scale = params.scale * LOG2_E;
${documents ? "  let begin = find_begin(sequence, tile_row, thread);" : ""}
${each(
  threadRows,
  (
    r,
  ) => `  let log_sum_${r} = logSum[params.logSum_at + (first_row + ${row(r)}) * params.logSum_stride + head] * LOG2_E;
  let mean_${r} = mean[params.mean_at + (first_row + ${row(r)}) * params.mean_stride + head];
${documents ? `  let first_${r} = first_visible(sequence, ${row(r)});` : ""}`,
)}
${declareSums("sum", spec, own)}
  for (var key = ${documents ? "begin" : "0u"}; key < end; key += COLUMNS) {
    let keys = vec4u(key + 4u * across) + LANES;
${multiplyHeads("score", { name: "q", base: "q_base", ...query }, { name: "k", base: "k_base", ...key }, spec)}
${multiplyHeads("slope", { name: "gradY", base: "gradY_base", ...query }, { name: "v", base: "v_base", ...key }, spec)}
${each(threadRows, (r) => {
  const sees = `keys <= vec4u(tile_row + down * THREAD_ROWS + ${r}u)`;
  const seen = documents ? `(${sees}) & (keys >= vec4u(first_${r}))` : sees;
  return `    score_${r} = select(vec4f(), exp2(min(score_${r} * scale - log_sum_${r}, vec4f(64))), ${seen}) * (slope_${r} - mean_${r});`;
})}
${storeWeights("score", spec)}
${addWeighted("sum", { name: "k", base: "k_base", ...key }, spec, own)}
  }
${storeSums(spec, own, {
  ...query,
  store: (r, o) => `store_gradQ(gradQ_base, row, part, sum_${r}_${o} * params.scale);`,
})}
}`;
}
