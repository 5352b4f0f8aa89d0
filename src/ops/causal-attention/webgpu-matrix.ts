// causalAttention on WebGPU, forward, by matrix units: float16 in, scores and sums in float32. A workgroup takes a tile of
// queries of one head through all tiles of keys before it, with a running softmax whose largest score is only now and then
// brought up to date. The same kernel reads a cache for cachedAttention. See README.md.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { EMULATED_OPS, MATRIX, UNIT_OPS } from "../webgpu-matrix-ops.ts";
import {
  addByColumns,
  bringTile,
  COLUMNS,
  declareFetch,
  declareHeadSums,
  fetchTile,
  handOver,
  headStride,
  leftOfHeads,
  matrixEntry,
  multiplyByRows,
  PART_ROWS,
  putTile,
  putWeights,
  rowOfScores,
  SCORE_STRIDE,
  unitReader,
} from "./webgpu-matrix-tiles.ts";
import type { HeadTile, MatrixShape } from "./webgpu-matrix-tiles.ts";
import { each, headWriter, tileUse } from "./webgpu-tiles.ts";
import { BEGIN_OF_DOCUMENTS, FIRST_VISIBLE } from "./webgpu-visible.ts";

/** Heads for which there is room in registers. */
export const MOST_FORWARD = 128;
/** Scores may grow so much above the one that is subtracted, as a power of 2: float16 holds 2^15. */
const MOST_GROWTH = 8;

export type MatrixTilesSpec = {
  /** Subgroups of a workgroup, each with 32 queries. */
  readonly subgroups: number;
  readonly y: string;
  readonly headDim: number;
  /** Whether the logarithm of the softmax's denominator is written. */
  readonly saves: boolean;
  /** Whether queries say which key is the first that they see. */
  readonly documents: boolean;
  /** Whether `lengths` keys come before the first query, and k and v are a cache. */
  readonly cached: boolean;
  /** Ordinary arithmetic in place of the units, for tests. */
  readonly emulated: boolean;
};

const SAMPLE = { subgroups: 1, y: "f16", headDim: 16, saves: true, documents: true, cached: false } as const;

/** Workgroups: tiles of queries, heads, batch. */
export const attentionMatrices: KernelFamily<MatrixTilesSpec> = defineKernel<MatrixTilesSpec>(
  "attentionMatrices",
  [
    { ...SAMPLE, emulated: true },
    { ...SAMPLE, subgroups: 4, headDim: 64, emulated: false },
    { ...SAMPLE, subgroups: 2, headDim: 128, y: "f32", saves: false, documents: false, cached: true, emulated: false },
  ],
  (spec) => ({
    buffers: {
      q: "read vec4<u32>",
      k: "read vec4<u32>",
      v: "read vec4<u32>",
      y: tileUse("write", spec.y, 4),
      ...(spec.documents && { firstVisible: "read i32" }),
      ...(spec.saves && { logSum: "write f32" }),
      ...(spec.cached && { lengths: "read i32" }),
    },
    params: ["length", "group", "keyRows", "scale: f32", "nan", "steps"],
    ...(spec.emulated ? EMULATED_OPS : UNIT_OPS).extensions,
    body: body(spec),
  }),
);

type LayoutSpec = Pick<MatrixTilesSpec, "subgroups" | "headDim" | "emulated">;

/**
 * Units of workgroup memory, one tile behind the other. Queries of narrow heads only pass through the place of scores, to
 * be held in registers; an emulated matrix is no more than its place.
 */
function layoutOf({ subgroups, headDim, emulated }: LayoutSpec) {
  const rows = subgroups * PART_ROWS;
  const keys = COLUMNS * headStride(headDim);
  const isHeld = !emulated && headStride(headDim) <= SCORE_STRIDE;
  const scores = 2 * keys;
  const queries = isHeld ? scores : scores + rows * SCORE_STRIDE;
  const units = scores + rows * SCORE_STRIDE + (isHeld ? 0 : rows * headStride(headDim));
  return { rows, values: keys, scores, queries, isHeld, units };
}

/** Bytes of workgroup memory, with some beside the tiles. */
export function forwardBytes(spec: LayoutSpec): number {
  return 16 * (layoutOf(spec).units + 4);
}

/** The tiles of a kernel, and what its products have in common. */
function partsOf(spec: MatrixTilesSpec) {
  const { subgroups, headDim, emulated } = spec;
  const layout = layoutOf(spec);
  const shape: MatrixShape = { ops: emulated ? EMULATED_OPS : UNIT_OPS, headDim, threads: subgroups * PART_ROWS };
  const query = { rows: layout.rows, base: "q_base", first: "tile_row", end: "params.length" };
  const key = { rows: COLUMNS, first: "next", end: "params.keyRows" };
  const queries: HeadTile = { ...query, name: "q", at: layout.queries };
  const keys: HeadTile = { ...key, name: "k", at: 0, base: "k_base" };
  const values: HeadTile = { ...key, name: "v", at: layout.values, base: "v_base" };
  return { spec, layout, shape, queries, keys, values };
}

type Parts = ReturnType<typeof partsOf>;

function body(spec: MatrixTilesSpec): string {
  const parts = partsOf(spec);
  const { layout, shape, keys, values } = parts;
  const left = (i: number, s: number): string =>
    layout.isHeld ? `query_${i}_${s}` : leftOfHeads(shape, layout.queries, i, s);
  return /* wgsl */ `${header(parts)}
${matrixEntry(shape)}
${places(spec)}
  if (thread == 0u) { grew = 0u; }
  // The score that is subtracted from those of the row, base 2, and the sum of what they make.
  var most = LEAST;
  var total = 0.0;
${declareHeadSums("sum", shape)}
${bringQueries(parts)}
${declareFetch(keys, shape)}
${declareFetch(values, shape)}
  var next = begin;
${fetchTile(keys, shape)}
${fetchTile(values, shape)}
  for (var key = begin; key < end; key += COLUMNS) {
${putTile(keys, shape)}
${putTile(values, shape)}
    workgroupBarrier();
    next = key + COLUMNS;
    if (next < end) {
${fetchTile(keys, shape)}
${fetchTile(values, shape)}
    }
${multiplyByRows(shape, { name: "score", left, right: keys, to: layout.scores })}
    workgroupBarrier();
${softmaxStep(spec, shape)}
    workgroupBarrier();
${addByColumns(shape, { sums: "sum", from: layout.scores, right: values })}
    workgroupBarrier();
  }
${handOver(shape, { sums: "sum", at: layout.scores, visit: (first, count) => storeParts(first, count, spec) })}
${spec.saves ? STORE_LOG_SUM : ""}
}`;
}

const header = ({ spec, layout, shape }: Parts): string => /* wgsl */ `
const ROWS = ${layout.rows}u;
const COLUMNS = ${COLUMNS}u;
const HEAD_DIM = ${spec.headDim}u;
const LOG2_E = 1.4426950408889634;
/** Of a key that may not be seen: below all others, and finite. */
const LEAST = -1e30;
const LANES = vec4u(0u, 1u, 2u, 3u);

var<workgroup> tile: array<vec4<u32>, ${layout.units}>;
/** Whether a row's largest score grew too much. All that write it write 1. */
var<workgroup> grew: u32;
${["q", "k", "v"].map(unitReader).join("")}
${headWriter("y", tileUse("write", spec.y, 1), 4, spec.headDim)}
${spec.documents ? FIRST_VISIBLE : ""}
${shape.ops.helpers}`;

/** Where the workgroup's tile begins in each tensor, and which keys it goes through. */
const places = ({ cached, documents }: MatrixTilesSpec): string => /* wgsl */ `
  // The tiles with the most keys come first.
  let tile_row = (groups.x - 1u - group.x) * ROWS;
  let head = group.y;
  let sequence = group.z;
  let row = tile_row + thread;
  // Keys before the first query, and behind the last that this tile sees.
  let before = ${cached ? "u32(lengths[params.lengths_at + sequence])" : "0u"};
  let end = min(before + min(params.length, tile_row + ROWS), params.keyRows);
  let q_base = params.q_at + sequence * params.length * params.q_stride + head * HEAD_DIM;
  let y_base = params.y_at + sequence * params.length * params.y_stride + head * HEAD_DIM;
  let key_head = head / params.group;
  let k_base = params.k_at + sequence * params.keyRows * params.k_stride + key_head * HEAD_DIM;
  let v_base = params.v_at + sequence * params.keyRows * params.v_stride + key_head * HEAD_DIM;
  let scale = params.scale * LOG2_E;
${documents ? BEGIN_OF_DOCUMENTS : "  let begin = 0u;"}`;

/** Queries go to workgroup memory, and from there, where they are held, to registers. */
function bringQueries({ layout, shape, queries }: Parts): string {
  const held = each(PART_ROWS / MATRIX, (i) =>
    each(shape.headDim / MATRIX, (s) => `  let query_${i}_${s} = ${leftOfHeads(shape, layout.queries, i, s)};`),
  );
  return /* wgsl */ `${bringTile(queries, shape)}
  workgroupBarrier();
${layout.isHeld ? held : ""}`;
}

/** The thread's row of scores becomes weights; sums shrink where a score came that is too large beside the one subtracted. */
function softmaxStep(spec: MatrixTilesSpec, shape: MatrixShape): string {
  const { scores } = layoutOf(spec);
  const vectors = COLUMNS / 4;
  const seen = (i: number): string => {
    const sees = `keys + vec4u(${4 * i}u) <= vec4u(before + row)`;
    return spec.documents ? `(${sees}) & (keys + vec4u(${4 * i}u) >= vec4u(first))` : sees;
  };
  return /* wgsl */ `
    let keys = vec4u(key) + LANES;
    var largest = vec4f(LEAST);
${each(
  vectors,
  (
    i,
  ) => `    var weight_${i} = select(vec4f(LEAST), bitcast<vec4f>(tile[${rowOfScores(scores)} + ${i}u]) * scale, ${seen(i)});
    largest = max(largest, weight_${i});`,
)}
    let highest = max(max(largest.x, largest.y), max(largest.z, largest.w));
    let before_step = most;
    // The first score of a row, or one that grew too much. Sums are still 0 in the first case.
    if (highest > most + ${MOST_GROWTH}.0) {
      if (most > LEAST) { grew = 1u; }
      most = highest;
    }
    let has_grown = workgroupUniformLoad(&grew) != 0u;
    if (has_grown) {
      let shrink = exp2(before_step - most);
      total *= shrink;
${handOver(shape, { sums: "sum", at: scores, visit: (_, parts, back) => shrinkRow(scores, parts, back) })}
      if (thread == 0u) { grew = 0u; }
    }
    // Keys that are not seen stay at the least score: where nothing was seen yet, that is the one subtracted, too.
    let subtracted = max(most, 0.5 * LEAST);
${each(vectors, (i) => `    weight_${i} = exp2(weight_${i} - subtracted);\n    total += dot(weight_${i}, vec4f(1));`)}
${putWeights("weight", scores)}`;
}

function shrinkRow(at: number, parts: number, back: string): string {
  return /* wgsl */ `
${each(parts, (n) => `      tile[${rowOfScores(at)} + ${n}u] = bitcast<vec4u>(bitcast<vec4f>(tile[${rowOfScores(at)} + ${n}u]) * shrink);`)}
    workgroupBarrier();
${back}`;
}

function storeParts(first: number, parts: number, spec: MatrixTilesSpec): string {
  const value = (n: number): string => `bitcast<vec4f>(tile[${rowOfScores(layoutOf(spec).scores)} + ${n}u]) / total`;
  const stored = (n: number): string =>
    spec.cached ? `select(${value(n)}, vec4f(bitcast<f32>(params.nan)), before + row >= params.keyRows)` : value(n);
  return /* wgsl */ `
    if (row < params.length) {
${each(parts, (n) => `      store_y(y_base, row, ${first + n}u, ${stored(n)});`)}
    }`;
}

const STORE_LOG_SUM = /* wgsl */ `
  if (row < params.length) {
    let at = params.logSum_at + (sequence * params.length + row) * params.logSum_stride + head;
    logSum[at] = (most + log2(total)) / LOG2_E;
  }`;
