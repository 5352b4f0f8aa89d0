// The gradients of causalAttention by matrix units. One kernel for both passes: a workgroup takes a tile of rows (queries, or
// keys) of one head through all columns (keys, or queries) that they see or that see them. See README.md.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { EMULATED_OPS, UNIT_OPS } from "../webgpu-matrix-ops.ts";
import { vectorUse } from "../webgpu-elements.ts";
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
import { each, headWriter } from "./webgpu-tiles.ts";
import { BEGIN_OF_DOCUMENTS, FIRST_VISIBLE } from "./webgpu-visible.ts";

/** Heads for which there is room in registers and workgroup memory. */
export const MOST_GRADIENT = 64;

export type MatrixGradientSpec = {
  /** Subgroups of a workgroup, each with 32 rows. */
  readonly subgroups: number;
  readonly headDim: number;
  readonly documents: boolean;
  /** What the rows are: gradQ, or either gradK, gradV or both, or grads, which holds both in its columns. */
  readonly gradQ: BufferUse | undefined;
  readonly gradK: BufferUse | undefined;
  readonly gradV: BufferUse | undefined;
  readonly grads: BufferUse | undefined;
  /** Ordinary arithmetic in place of the units, for tests. */
  readonly emulated: boolean;
};

const NONE = { gradQ: undefined, gradK: undefined, gradV: undefined, grads: undefined };
const EMULATED = { ...NONE, subgroups: 1, headDim: 16, emulated: true } as const;
const UNITS = { ...NONE, subgroups: 2, headDim: 64, emulated: false } as const;

/** Workgroups: tiles of rows, heads (of queries, or of keys), batch. */
export const attentionMatrixGradient: KernelFamily<MatrixGradientSpec> = defineKernel<MatrixGradientSpec>(
  "attentionMatrixGradient",
  [
    { ...EMULATED, documents: true, gradQ: "write f16" },
    { ...EMULATED, documents: true, gradK: "add f32", gradV: "write f32" },
    { ...UNITS, documents: false, gradQ: "add f16" },
    { ...UNITS, documents: false, grads: "write f16" },
    { ...UNITS, documents: false, gradV: "write f16" },
  ],
  (spec) => ({
    buffers: {
      q: "read vec4<u32>",
      k: "read vec4<u32>",
      v: "read vec4<u32>",
      gradY: "read vec4<u32>",
      logSum: "read f32",
      mean: "read f32",
      ...(spec.documents && { firstVisible: "read i32" }),
      ...Object.fromEntries(writtenBy(spec).map((name) => [name, vectorUse(spec[name]!, 4)])),
    },
    params: ["length", "group", "scale: f32", "skipK", "skipV", "steps"],
    ...(spec.emulated ? EMULATED_OPS : UNIT_OPS).extensions,
    body: spec.gradQ ? queriesBody(spec) : keysBody(spec),
  }),
);

const writtenBy = (spec: MatrixGradientSpec): readonly ("gradQ" | "gradK" | "gradV" | "grads")[] =>
  (["gradQ", "gradK", "gradV", "grads"] as const).filter((name) => spec[name] !== undefined);

/** Units of workgroup memory: two tiles of columns, two of rows, and scores and their slopes. */
function layoutOf({ subgroups, headDim }: Pick<MatrixGradientSpec, "subgroups" | "headDim">) {
  const rows = subgroups * PART_ROWS;
  const columnUnits = COLUMNS * headStride(headDim);
  const rowUnits = rows * headStride(headDim);
  const scores = 2 * (columnUnits + rowUnits);
  const slopes = scores + rows * SCORE_STRIDE;
  return {
    rows,
    columns: [0, columnUnits],
    lefts: [2 * columnUnits, 2 * columnUnits + rowUnits],
    scores,
    slopes,
    units: slopes + rows * SCORE_STRIDE,
  };
}

/** Bytes of workgroup memory, with some beside the tiles. */
export function gradientBytes(spec: Pick<MatrixGradientSpec, "subgroups" | "headDim">): number {
  return 16 * (layoutOf(spec).units + COLUMNS);
}

interface Parts {
  readonly spec: MatrixGradientSpec;
  readonly shape: MatrixShape;
  readonly layout: ReturnType<typeof layoutOf>;
}

const partsOf = (spec: MatrixGradientSpec): Parts => ({
  spec,
  layout: layoutOf(spec),
  shape: { ops: spec.emulated ? EMULATED_OPS : UNIT_OPS, headDim: spec.headDim, threads: spec.subgroups * PART_ROWS },
});

function header({ spec, layout }: Parts): string {
  return /* wgsl */ `
const ROWS = ${layout.rows}u;
const COLUMNS = ${COLUMNS}u;
const HEAD_DIM = ${spec.headDim}u;
const LOG2_E = 1.4426950408889634;
const LANES = vec4u(0u, 1u, 2u, 3u);

var<workgroup> tile: array<vec4<u32>, ${layout.units}>;
${["q", "k", "v", "gradY"].map(unitReader).join("")}
${writtenBy(spec)
  .map((name) => headWriter(name, spec[name]!, 4, spec.headDim))
  .join("")}
${spec.documents ? FIRST_VISIBLE : ""}
${(spec.emulated ? EMULATED_OPS : UNIT_OPS).helpers}`;
}

/** WGSL: scores and slopes of the tile, each the products of a left and a right one along the channels. */
const multiply = ({ shape, layout }: Parts, rights: readonly HeadTile[]): string =>
  rights
    .map((right, n) =>
      multiplyByRows(shape, {
        name: n === 0 ? "score" : "slope",
        left: (i, s) => leftOfHeads(shape, layout.lefts[n], i, s),
        right,
        to: n === 0 ? layout.scores : layout.slopes,
      }),
    )
    .join("\n");

/** WGSL: the thread's row of probabilities, weight_i, and of slopes of the scores, slope_i, in vectors of four columns. */
function rowWeights(
  { layout }: Parts,
  { seen, logSum, mean }: Record<"seen" | "logSum" | "mean", (i: number) => string>,
): string {
  return each(COLUMNS / 4, (i) => {
    const at = (first: number): string => `bitcast<vec4f>(tile[${rowOfScores(first)} + ${i}u])`;
    return `    let weight_${i} = select(vec4f(), exp2(min(${at(layout.scores)} * scale - ${logSum(i)}, vec4f(64))), ${seen(i)});
    let slope_${i} = weight_${i} * (${at(layout.slopes)} - ${mean(i)});`;
  });
}

/** WGSL: sums, by way of workgroup memory, to the rows of a gradient. */
function storeRows(
  { shape, layout }: Parts,
  { sums, name, base, factor }: { sums: string; name: string; base: string; factor: string },
): string {
  return handOver(shape, {
    sums,
    at: layout.scores,
    visit: (first, parts) => /* wgsl */ `
    if (row < params.length) {
${each(parts, (n) => `      store_${name}(${base}, row, ${first + n}u, bitcast<vec4f>(tile[${rowOfScores(layout.scores)} + ${n}u])${factor});`)}
    }`,
  });
}

/** Rows are queries, columns the keys that they see. */
function queriesBody(spec: MatrixGradientSpec): string {
  const parts = partsOf(spec);
  const { shape, layout } = parts;
  const row = { rows: layout.rows, first: "tile_row", end: "params.length" };
  const column = { rows: COLUMNS, first: "next", end: "params.length" };
  const queries: HeadTile = { ...row, name: "q", at: layout.lefts[0], base: "q_base" };
  const slopes: HeadTile = { ...row, name: "gradY", at: layout.lefts[1], base: "gradY_base" };
  const keys: HeadTile = { ...column, name: "k", at: layout.columns[0], base: "k_base" };
  const values: HeadTile = { ...column, name: "v", at: layout.columns[1], base: "v_base" };
  const seen = (i: number): string => {
    const sees = `keys + vec4u(${4 * i}u) <= vec4u(row)`;
    return spec.documents ? `(${sees}) & (keys + vec4u(${4 * i}u) >= vec4u(first))` : sees;
  };
  return /* wgsl */ `${header(parts)}
${matrixEntry(shape)}
${QUERY_PLACES}
${spec.documents ? BEGIN_OF_DOCUMENTS : "  let begin = 0u;"}
${declareHeadSums("sum", shape)}
${bringTile(queries, shape)}
${bringTile(slopes, shape)}
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
${multiply(parts, [keys, values])}
    workgroupBarrier();
    let keys = vec4u(key) + LANES;
${rowWeights(parts, { seen, logSum: () => "log_sum", mean: () => "mean_slope" })}
${putWeights("slope", layout.slopes)}
    workgroupBarrier();
${addByColumns(shape, { sums: "sum", from: layout.slopes, right: keys })}
    workgroupBarrier();
  }
${storeRows(parts, { sums: "sum", name: "gradQ", base: "gradQ_base", factor: " * params.scale" })}
}`;
}

const QUERY_PLACES = /* wgsl */ `
  // The tiles with the most keys come first.
  let tile_row = (groups.x - 1u - group.x) * ROWS;
  let head = group.y;
  let sequence = group.z;
  let row = tile_row + thread;
  let end = min(params.length, tile_row + ROWS);
  let first_row = sequence * params.length;
  let q_base = params.q_at + first_row * params.q_stride + head * HEAD_DIM;
  let gradY_base = params.gradY_at + first_row * params.gradY_stride + head * HEAD_DIM;
  let gradQ_base = params.gradQ_at + first_row * params.gradQ_stride + head * HEAD_DIM;
  let k_base = params.k_at + first_row * params.k_stride + head / params.group * HEAD_DIM;
  let v_base = params.v_at + first_row * params.v_stride + head / params.group * HEAD_DIM;
  let scale = params.scale * LOG2_E;
  let own = first_row + min(row, params.length - 1u);
  let log_sum = logSum[params.logSum_at + own * params.logSum_stride + head] * LOG2_E;
  let mean_slope = mean[params.mean_at + own * params.mean_stride + head];`;

/** Rows are keys, columns the queries that see them, of all heads that share the keys. */
function keysBody(spec: MatrixGradientSpec): string {
  const parts = partsOf(spec);
  const { shape, layout } = parts;
  const { documents } = spec;
  const nameK = spec.grads ? "grads" : spec.gradK && "gradK";
  const nameV = spec.grads ? "grads" : spec.gradV && "gradV";
  const row = { rows: layout.rows, first: "tile_row", end: "params.length" };
  const column = { rows: COLUMNS, first: "next_query", end: "params.length" };
  const keys: HeadTile = { ...row, name: "k", at: layout.lefts[0], base: "k_base" };
  const values: HeadTile = { ...row, name: "v", at: layout.lefts[1], base: "v_base" };
  const queries: HeadTile = { ...column, name: "q", at: layout.columns[0], base: "next_q" };
  const slopes: HeadTile = { ...column, name: "gradY", at: layout.columns[1], base: "next_gradY" };
  const next = `${NEXT_PLACES}\n${fetchTile(queries, shape)}\n${fetchTile(slopes, shape)}`;
  return /* wgsl */ `${header(parts)}
${columnMemory(documents)}
${matrixEntry(shape)}
${KEY_PLACES}
${nameK ? declareHeadSums("sum_k", shape) : ""}
${nameV ? declareHeadSums("sum_v", shape) : ""}
${bringTile(keys, shape)}
${bringTile(values, shape)}
${declareFetch(queries, shape)}
${declareFetch(slopes, shape)}
  {
    let step = 0u;
${next}
  }
  for (var done = 0u; done < steps; done++) {
    let head = key_head * params.group + done / tiles;
    let query = (first_tile + done % tiles) * COLUMNS;
${putTile(queries, shape)}
${putTile(slopes, shape)}
${putColumns(documents)}
    workgroupBarrier();
    let step = done + 1u;
    if (step < steps) {
${next}
    }
${documents ? SKIP_QUERIES : ""}
${multiply(parts, [queries, slopes])}
    workgroupBarrier();
    let queries = vec4u(query) + LANES;
${rowWeights(parts, columnValues(documents))}
${nameV ? putWeights("weight", layout.scores) : ""}
${nameK ? putWeights("slope", layout.slopes) : ""}
    workgroupBarrier();
${nameV ? addByColumns(shape, { sums: "sum_v", from: layout.scores, right: slopes }) : ""}
${nameK ? addByColumns(shape, { sums: "sum_k", from: layout.slopes, right: queries }) : ""}
    workgroupBarrier();
  }
${nameV ? storeRows(parts, { sums: "sum_v", name: nameV, base: keyBase(nameV, spec.grads ? "params.skipV" : "0u"), factor: "" }) : ""}
${nameK ? storeRows(parts, { sums: "sum_k", name: nameK, base: keyBase(nameK, spec.grads ? "params.skipK" : "0u"), factor: " * params.scale" }) : ""}
}`;
}

/** WGSL: the element of a gradient of keys or values at which the workgroup's head begins. */
const keyBase = (name: string, skip: string): string =>
  `params.${name}_at + ${skip} + first_row * params.${name}_stride + key_head * HEAD_DIM`;

const KEY_PLACES = /* wgsl */ `
  let tile_row = group.x * ROWS;
  let key_head = group.y;
  let sequence = group.z;
  let row = tile_row + thread;
  let first_row = sequence * params.length;
  let k_base = params.k_at + first_row * params.k_stride + key_head * HEAD_DIM;
  let v_base = params.v_at + first_row * params.v_stride + key_head * HEAD_DIM;
  let scale = params.scale * LOG2_E;
  // The first query that sees a key of the tile is at the tile's first row. Steps go through the queries of head by head.
  let first_tile = tile_row / COLUMNS;
  let tiles = (params.length + COLUMNS - 1u) / COLUMNS - first_tile;
  let steps = tiles * params.group;`;

/** Where the queries of a step come from. */
const NEXT_PLACES = /* wgsl */ `
    let next_head = key_head * params.group + step / tiles;
    let next_query = (first_tile + step % tiles) * COLUMNS;
    let next_q = params.q_at + first_row * params.q_stride + next_head * HEAD_DIM;
    let next_gradY = params.gradY_at + first_row * params.gradY_stride + next_head * HEAD_DIM;`;

/** What a step's queries have one number of: shared, for each thread needs all of them. */
const columnMemory = (documents: boolean): string => /* wgsl */ `
var<workgroup> column_log: array<f32, COLUMNS>;
var<workgroup> column_mean: array<f32, COLUMNS>;
${documents ? "var<workgroup> column_first: array<u32, COLUMNS>;\nvar<workgroup> least_first: u32;" : ""}`;

const putColumns = (documents: boolean): string => /* wgsl */ `
    if (thread < COLUMNS) {
      let own = first_row + min(query + thread, params.length - 1u);
      column_log[thread] = logSum[params.logSum_at + own * params.logSum_stride + head] * LOG2_E;
      column_mean[thread] = mean[params.mean_at + own * params.mean_stride + head];
${documents ? "      column_first[thread] = first_visible(sequence, min(query + thread, params.length - 1u));" : ""}
    }`;

/** WGSL of columns 4 i to 4 i + 3: which of them see the thread's key, and what they have one number of. */
function columnValues(documents: boolean): Record<"seen" | "logSum" | "mean", (i: number) => string> {
  const four = (type: string, array: string, i: number): string =>
    `${type}(${[0, 1, 2, 3].map((j) => `${array}[${4 * i + j}]`).join(", ")})`;
  return {
    seen(i) {
      const columns = `queries + vec4u(${4 * i}u)`;
      const sees = `(${columns} >= vec4u(row)) & (${columns} < vec4u(params.length))`;
      return documents ? `${sees} & (${four("vec4u", "column_first", i)} <= vec4u(row))` : sees;
    },
    logSum: (i) => four("vec4f", "column_log", i),
    mean: (i) => four("vec4f", "column_mean", i),
  };
}

/** Goes on where no query of the tile sees a key: those of later documents. */
const SKIP_QUERIES = /* wgsl */ `
    if (thread == 0u) {
      least_first = column_first[0];
      for (var i = 1u; i < COLUMNS; i++) { least_first = min(least_first, column_first[i]); }
    }
    if (workgroupUniformLoad(&least_first) >= tile_row + ROWS) { continue; }`;
