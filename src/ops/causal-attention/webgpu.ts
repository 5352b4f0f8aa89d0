// causalAttention on WebGPU, forward: a workgroup takes a tile of queries of one head through all tiles of keys before it,
// with a running softmax (FlashAttention). The same kernel reads a cache for cachedAttention. See README.md.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { rowsPerBinding, vectorWidthOf } from "../webgpu-elements.ts";
import { headsOf } from "./heads.ts";
import type { AttentionInputs, AttentionOptions, AttentionOutputs } from "./index.ts";
import { attentionMatrices, forwardBytes, MOST_FORWARD } from "./webgpu-matrix.ts";
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

export function forward(
  { inputs, outputs, saved, options }: ForwardCall<AttentionInputs, AttentionOutputs, AttentionOptions>,
  backend: WebGpuBackend,
  wanted?: Tile | Units,
): void {
  const { length, nHeads, group } = headsOf("causalAttention", inputs, options.headDim);
  splitBatch(backend, { ...inputs, y: outputs.y, logSum: saved?.logSum }, (parts) =>
    attend(backend, parts, { ...options, length, nHeads, group, keyRows: length, wanted }),
  );
}

/** How matrix units go about a pass: subgroups of a workgroup, and for tests whether ordinary arithmetic takes their place. */
export interface Units {
  readonly subgroups: number;
  readonly emulated: boolean;
}

interface Attending {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly y: Tensor;
  readonly firstVisible?: Tensor | undefined;
  readonly logSum?: Tensor | undefined;
  /** Where k and v are a cache: the keys before the first query. */
  readonly lengths?: Tensor | undefined;
}

interface AttendingSizes extends AttentionOptions {
  readonly length: number;
  readonly nHeads: number;
  readonly group: number;
  readonly keyRows: number;
  readonly wanted?: Tile | Units | undefined;
}

/** The bits of a number that is none. */
const NAN = 0x7fc00000;

/** The forward pass of tensors that each fit a binding, by matrix units where they suit. */
export function attend(backend: WebGpuBackend, tensors: Attending, sizes: AttendingSizes): void {
  const { q, k, v, y, firstVisible, logSum, lengths } = tensors;
  const { headDim, scale = headDim ** -0.5, length, nHeads, group, keyRows, wanted } = sizes;
  const [batch] = q.shape;
  const buffers = {
    q,
    k,
    v,
    y,
    ...(firstVisible && { firstVisible }),
    ...(logSum && { logSum }),
    ...(lengths && { lengths }),
  };
  const shared = {
    y: y.dtype,
    headDim,
    saves: logSum !== undefined,
    documents: firstVisible !== undefined,
    cached: lengths !== undefined,
  };
  const params = { length, group, keyRows, scale, nan: NAN };
  const units = wanted ? "subgroups" in wanted && wanted : unitsFor(backend, tensors, sizes);
  if (units) {
    const groups = [Math.ceil(length / (PART_ROWS * units.subgroups)), nHeads, batch] as const;
    return backend.dispatch(attentionMatrices({ ...shared, ...units }), buffers, { ...params, steps: 1 }, groups);
  }
  const tile = wanted && "tileRows" in wanted ? wanted : tileFor(backend, length, headDim);
  const width = headWidthOf(headDim, q, k, v, y);
  const kernel = attentionTiles({ ...tile, ...shared, q: q.dtype, k: k.dtype, v: v.dtype, width });
  const groups = [Math.ceil(length / tile.tileRows), nHeads, batch] as const;
  backend.dispatch(kernel, buffers, { ...params, head: Math.ceil(headDim / 4) }, groups);
}

/** Workgroups that keep a large GPU busy. */
const ENOUGH_GROUPS = 256;

/** The largest workgroup that gives enough of them, where matrix units suit. */
function unitsFor(
  backend: WebGpuBackend,
  { q, k, v, y }: Attending,
  { headDim, length, nHeads }: AttendingSizes,
): Units | undefined {
  if (!suitsUnits(backend, { length, headDim, most: MOST_FORWARD }, q, k, v) || headWidthOf(headDim, y) !== 4)
    return undefined;
  const { maxComputeWorkgroupStorageSize: most } = backend.device.limits;
  const groupsOf = (subgroups: number): number => Math.ceil(length / (PART_ROWS * subgroups)) * nHeads * q.shape[0];
  const fitting = [4, 2].filter((subgroups) => forwardBytes({ subgroups, headDim, emulated: false }) <= most);
  const subgroups = fitting.find((each) => groupsOf(each) >= ENOUGH_GROUPS) ?? fitting.at(-1);
  return subgroups ? { subgroups, emulated: false } : undefined;
}

/** 4 where all heads of these tensors begin at multiples of four elements, else 1. */
export function headWidthOf(headDim: number, ...tensors: readonly (Tensor | undefined)[]): VectorWidth {
  return headDim % 4 === 0 ? vectorWidthOf(...tensors) : 1;
}

/** Calls `body` with all tensors, or with pieces of their first axis where one is larger than a binding. */
export function splitBatch<T extends { readonly [name: string]: Tensor | undefined }>(
  backend: WebGpuBackend,
  tensors: T,
  body: (parts: T) => void,
): void {
  const present = Object.values(tensors).filter((tensor) => tensor !== undefined);
  const batch = present[0].shape[0];
  const entries = present.map((tensor) => Math.floor((rowsPerBinding(backend, [tensor]) * batch) / tensor.rows));
  // An axis of workgroups has so many at the most.
  const most = Math.max(1, Math.min(65535, ...entries));
  if (batch <= most) return body(tensors);
  for (let first = 0; first < batch; first += most) {
    const count = Math.min(most, batch - first);
    const parts = Object.entries(tensors).map(([name, tensor]) => [name, tensor?.entries(first, count)]);
    body(Object.fromEntries(parts) as T);
  }
}

export type TilesSpec = Tile & {
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly y: string;
  readonly width: VectorWidth;
  readonly headDim: number;
  /** Whether the logarithm of the softmax's denominator is written. */
  readonly saves: boolean;
  /** Whether queries say which key is the first that they see. */
  readonly documents: boolean;
  /** Whether `lengths` keys come before the first query, and k and v are a cache. */
  readonly cached: boolean;
};

const SAMPLE = { q: "f32", k: "f32", v: "f32", y: "f32", width: 4, headDim: 64, cached: false } as const;
const LARGE = { tileRows: 64, tileColumns: 64, steps: 32, threadRows: 4 };
const SMALL = { tileRows: 32, tileColumns: 32, steps: 16, threadRows: 4 };

/** Workgroups: tiles of queries, heads, batch. */
export const attentionTiles: KernelFamily<TilesSpec> = defineKernel<TilesSpec>(
  "attentionTiles",
  [
    { ...LARGE, ...SAMPLE, saves: true, documents: true },
    { ...SMALL, ...SAMPLE, saves: false, documents: false, width: 1, headDim: 6 },
    { ...SMALL, ...SAMPLE, q: "f16", k: "f16", v: "f16", y: "f16", headDim: 160, saves: false, documents: false },
    { ...SMALL, ...SAMPLE, q: "f16", y: "f16", saves: false, documents: false, cached: true },
  ],
  (spec) => ({
    buffers: {
      q: tileUse("read", spec.q, spec.width),
      k: tileUse("read", spec.k, spec.width),
      v: tileUse("read", spec.v, spec.width),
      y: tileUse("write", spec.y, spec.width),
      ...(spec.documents && { firstVisible: "read i32" }),
      ...(spec.saves && { logSum: "write f32" }),
      ...(spec.cached && { lengths: "read i32" }),
    },
    params: ["length", "head", "group", "keyRows", "scale: f32", "nan"],
    body: tilesBody(spec),
  }),
);

function tilesBody(spec: TilesSpec): string {
  const { width, headDim } = spec;
  const { own } = sizesOf(spec, headDim);
  const key = { first: "key", end: "end" };
  return /* wgsl */ `${tileHeader(spec, headDim)}
${["q", "k", "v"].map((name) => headReader(name, width, headDim)).join("")}
${headWriter("y", tileUse("write", spec.y, 1), width, headDim)}
${spec.documents ? FIRST_VISIBLE : ""}
${TILE_ENTRY}
  // The tiles with the most keys come first.
  let tile_row = (groups.x - 1u - group.x) * ROWS;
  let head = group.y;
  let sequence = group.z;
  // Keys before the first query, and behind the last that this tile sees.
  let before = ${spec.cached ? "u32(lengths[params.lengths_at + sequence])" : "0u"};
  let end = min(before + min(params.length, tile_row + ROWS), params.keyRows);
  let q_base = params.q_at + sequence * params.length * params.q_stride + head * HEAD_DIM;
  let y_base = params.y_at + sequence * params.length * params.y_stride + head * HEAD_DIM;
  let key_head = head / params.group;
  let k_base = params.k_at + sequence * params.keyRows * params.k_stride + key_head * HEAD_DIM;
  let v_base = params.v_at + sequence * params.keyRows * params.v_stride + key_head * HEAD_DIM;
${softmaxState(spec)}
${declareSums("sum", spec, own)}
  for (var key = ${spec.documents ? "begin" : "0u"}; key < end; key += COLUMNS) {
${multiplyHeads("score", { name: "q", base: "q_base", first: "tile_row", end: "params.length" }, { name: "k", base: "k_base", ...key }, spec)}
${softmaxStep(spec, own)}
${storeWeights("score", spec)}
${addWeighted("sum", { name: "v", base: "v_base", ...key }, spec, own)}
  }
${softmaxEnd(spec, own)}
}`;
}

/** Largest score and sum of exponentials of each row of a thread, in vectors of four rows; scores are base-2 logarithms. */
function softmaxState({ threadRows, documents }: TilesSpec): string {
  const row = (r: number): string => `min(tile_row + down * THREAD_ROWS + ${r}u, params.length - 1u)`;
  return /* wgsl */ `
  let scale = params.scale * LOG2_E;
${each(threadRows / 4, (i) => `  var most_${i} = vec4f(LEAST);\n  var total_${i} = vec4f();`)}
${documents ? `  let begin = find_begin(sequence, tile_row, thread);\n${each(threadRows, (r) => `  let first_${r} = first_visible(sequence, ${row(r)});`)}` : ""}`;
}

/** Scores become weights; what was summed before shrinks where a larger score came. */
function softmaxStep({ threadRows, documents }: TilesSpec, own: number): string {
  const four = (i: number, text: (r: number) => string): string =>
    `vec4f(${[0, 1, 2, 3].map((j) => text(4 * i + j)).join(", ")})`;
  const largest = (r: number): string => `max(max(score_${r}.x, score_${r}.y), max(score_${r}.z, score_${r}.w))`;
  return /* wgsl */ `
    let keys = vec4u(key + 4u * across) + LANES;
${each(threadRows, (r) => {
  const sees = `keys <= vec4u(before + tile_row + down * THREAD_ROWS + ${r}u)`;
  const seen = documents ? `(${sees}) & (keys >= vec4u(first_${r}))` : sees;
  // Keys from the end on are seen only by rows that do not exist.
  return `    score_${r} = select(vec4f(LEAST), score_${r} * scale, ${seen});`;
})}
${each(threadRows / 4, (i) => `    left[thread * (THREAD_ROWS / 4u) + ${i}u] = ${four(i, largest)};`)}
    workgroupBarrier();
${each(threadRows / 4, (i) => `    var next_${i} = most_${i};`)}
    for (var j = 0u; j < ACROSS; j++) {
${each(threadRows / 4, (i) => `      next_${i} = max(next_${i}, left[(down * ACROSS + j) * (THREAD_ROWS / 4u) + ${i}u]);`)}
    }
${each(threadRows, (r) => `    score_${r} = exp2(score_${r} - vec4f(next_${r >> 2}[${r & 3}]));`)}
${each(
  threadRows / 4,
  (i) => `    let shrink_${i} = exp2(most_${i} - next_${i});
    most_${i} = next_${i};
    total_${i} = total_${i} * shrink_${i} + ${four(i, (r) => `dot(score_${r}, vec4f(1))`)};`,
)}
${each(threadRows, (r) => each(own, (o) => `    sum_${r}_${o} *= shrink_${r >> 2}[${r & 3}];`))}`;
}

/** The sums of a row's threads are added; y and, where wanted, the logarithm of the denominator are written. */
function softmaxEnd(spec: TilesSpec, own: number): string {
  const { threadRows, saves, cached } = spec;
  const value = (r: number, o: number): string => `sum_${r}_${o} / total_${r >> 2}[${r & 3}]`;
  const nan = "vec4f(bitcast<f32>(params.nan))";
  const stored = (r: number, o: number): string =>
    cached ? `select(${value(r, o)}, ${nan}, before + row >= params.keyRows)` : value(r, o);
  return /* wgsl */ `
  workgroupBarrier();
${each(threadRows / 4, (i) => `  left[thread * (THREAD_ROWS / 4u) + ${i}u] = total_${i};\n  total_${i} = vec4f();`)}
  workgroupBarrier();
  for (var j = 0u; j < ACROSS; j++) {
${each(threadRows / 4, (i) => `    total_${i} += left[(down * ACROSS + j) * (THREAD_ROWS / 4u) + ${i}u];`)}
  }
${storeSums(spec, own, {
  first: "tile_row",
  end: "params.length",
  store: (r, o) => `store_y(y_base, row, part, ${stored(r, o)});`,
})}
${saves ? each(threadRows, storeLogSum) : ""}`;
}

const storeLogSum = (r: number): string => /* wgsl */ `
  if (across == 0u && tile_row + down * THREAD_ROWS + ${r}u < params.length) {
    let row = sequence * params.length + tile_row + down * THREAD_ROWS + ${r}u;
    logSum[params.logSum_at + row * params.logSum_stride + head] = (most_${r >> 2}[${r & 3}] + log2(total_${r >> 2}[${r & 3}])) / LOG2_E;
  }`;
