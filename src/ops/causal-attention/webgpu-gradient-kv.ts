// The gradients of keys and values: a workgroup takes a tile of keys of one head through all queries that see it, of all
// heads that share it. The tile is turned: its rows are keys, its columns queries.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { vectorUse } from "../webgpu-elements.ts";
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
  tileHeader,
  tileUse,
} from "./webgpu-tiles.ts";

type GradKvSpec = Tile & {
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly gradY: string;
  /** Either gradK, gradV or both; or grads, which holds both in its columns. */
  readonly gradK: BufferUse | undefined;
  readonly gradV: BufferUse | undefined;
  readonly grads: BufferUse | undefined;
  readonly width: VectorWidth;
  readonly headDim: number;
  readonly documents: boolean;
};

const LARGE = { tileRows: 64, tileColumns: 64, steps: 32, threadRows: 4 };
const SMALL = { tileRows: 32, tileColumns: 32, steps: 16, threadRows: 4 };
const SAMPLE = { ...SMALL, q: "f32", k: "f32", v: "f32", gradY: "f32", width: 4, headDim: 64 } as const;
const HALVES = { q: "f16", k: "f16", v: "f16", gradY: "f16" } as const;
const NONE = { gradK: undefined, gradV: undefined, grads: undefined };

/** Workgroups: tiles of keys, heads of keys, batch. */
export const attentionGradKv: KernelFamily<GradKvSpec> = defineKernel<GradKvSpec>(
  "attentionGradKv",
  [
    { ...SAMPLE, ...LARGE, ...NONE, gradK: "write f32", gradV: "write f32", documents: true },
    { ...SAMPLE, ...HALVES, ...NONE, grads: "add f16", documents: false },
    { ...SAMPLE, ...NONE, gradK: "add f32", width: 1, headDim: 6, documents: false },
    { ...SAMPLE, ...NONE, gradV: "write f32", documents: false },
  ],
  (spec) => ({
    buffers: {
      q: tileUse("read", spec.q, spec.width),
      k: tileUse("read", spec.k, spec.width),
      v: tileUse("read", spec.v, spec.width),
      gradY: tileUse("read", spec.gradY, spec.width),
      logSum: "read f32",
      mean: "read f32",
      ...(spec.documents && { firstVisible: "read i32" }),
      ...(spec.gradK && { gradK: vectorUse(spec.gradK, spec.width) }),
      ...(spec.gradV && { gradV: vectorUse(spec.gradV, spec.width) }),
      ...(spec.grads && { grads: vectorUse(spec.grads, spec.width) }),
    },
    params: ["length", "head", "group", "scale: f32", "skipK", "skipV"],
    body: gradKvBody(spec),
  }),
);

function gradKvBody(spec: GradKvSpec): string {
  const { width, headDim, documents } = spec;
  const { own } = sizesOf(spec, headDim);
  const nameK = spec.grads ? "grads" : spec.gradK && "gradK";
  const nameV = spec.grads ? "grads" : spec.gradV && "gradV";
  const written = [...new Set([nameK, nameV])].filter((name) => name !== undefined);
  return /* wgsl */ `${tileHeader(spec, headDim)}
${["q", "k", "v", "gradY"].map((name) => headReader(name, width, headDim)).join("")}
${written.map((name) => headWriter(name, (spec.grads ?? (name === "gradK" ? spec.gradK : spec.gradV))!, width, headDim)).join("")}
${documents ? DOCUMENT_MEMORY : ""}
${TILE_ENTRY}
  let tile_row = group.x * ROWS;
  let key_head = group.y;
  let sequence = group.z;
  let first_row = sequence * params.length;
  let k_base = params.k_at + first_row * params.k_stride + key_head * HEAD_DIM;
  let v_base = params.v_at + first_row * params.v_stride + key_head * HEAD_DIM;
  let scale = params.scale * LOG2_E;
${nameK ? declareSums("sum_k", spec, own) : ""}
${nameV ? declareSums("sum_v", spec, own) : ""}
  for (var head = key_head * params.group; head < (key_head + 1u) * params.group; head++) {
    let q_base = params.q_at + first_row * params.q_stride + head * HEAD_DIM;
    let gradY_base = params.gradY_at + first_row * params.gradY_stride + head * HEAD_DIM;
    // The first query that sees a key of the tile is at the tile's first row.
    for (var query = tile_row / COLUMNS * COLUMNS; query < params.length; query += COLUMNS) {
${tileOfQueries(spec, documents)}
${nameV ? storeWeights("score", spec) + addWeighted("sum_v", GRAD_ROWS, spec, own) : ""}
${nameK ? slopes(spec) + addWeighted("sum_k", QUERY_ROWS, spec, own) : ""}
    }
  }
${nameK ? storeHead(spec, own, { name: nameK, skip: spec.grads ? "params.skipK" : "0u", sum: "sum_k", factor: " * params.scale" }) : ""}
${nameV ? storeHead(spec, own, { name: nameV, skip: spec.grads ? "params.skipV" : "0u", sum: "sum_v", factor: "" }) : ""}
}`;
}

const KEY_ROWS = { name: "k", base: "k_base", first: "tile_row", end: "params.length" };
const VALUE_ROWS = { name: "v", base: "v_base", first: "tile_row", end: "params.length" };
const QUERY_ROWS = { name: "q", base: "q_base", first: "query", end: "params.length" };
const GRAD_ROWS = { name: "gradY", base: "gradY_base", first: "query", end: "params.length" };

/** Goes on where no query of the tile sees a key: those of later documents. */
const SKIP_QUERIES = /* wgsl */ `
    if (down == 0u) { column_firsts[across] = min(min(firsts.x, firsts.y), min(firsts.z, firsts.w)); }
    workgroupBarrier();
    if (thread == 0u) {
      tile_first = column_firsts[0];
      for (var i = 1u; i < ACROSS; i++) { tile_first = min(tile_first, column_firsts[i]); }
    }
    if (workgroupUniformLoad(&tile_first) >= tile_row + ROWS) { continue; }`;

const DOCUMENT_MEMORY = /* wgsl */ `
var<workgroup> column_firsts: array<u32, ACROSS>;
var<workgroup> tile_first: u32;`;

/** Probabilities of the tile: score_ROW, four queries a vector. */
function tileOfQueries(spec: GradKvSpec, documents: boolean): string {
  const ofQueries = (buffer: string): string =>
    `vec4f(${[0, 1, 2, 3].map((j) => `${buffer}[params.${buffer}_at + rows[${j}] * params.${buffer}_stride + head]`).join(", ")})`;
  const first = [0, 1, 2, 3].map(
    (j) => `u32(firstVisible[params.firstVisible_at + rows[${j}] - first_row + sequence * params.firstVisible_stride])`,
  );
  return /* wgsl */ `
    let queries = vec4u(query + 4u * across) + LANES;
    let rows = first_row + min(queries, vec4u(params.length - 1u));
    let log_sums = ${ofQueries("logSum")} * LOG2_E;
    let means = ${ofQueries("mean")};
${documents ? `    let firsts = vec4u(${first.join(", ")});\n${SKIP_QUERIES}` : ""}
${multiplyHeads("score", KEY_ROWS, QUERY_ROWS, spec)}
${each(spec.threadRows, (r) => {
  const key = `vec4u(tile_row + down * THREAD_ROWS + ${r}u)`;
  const sees = `(queries >= ${key}) & (queries < vec4u(params.length))${documents ? ` & (firsts <= ${key})` : ""}`;
  return `    score_${r} = select(vec4f(), exp2(min(score_${r} * scale - log_sums, vec4f(64))), ${sees});`;
})}`;
}

/** Slopes of the scores become the weights of queries. */
function slopes(spec: GradKvSpec): string {
  return /* wgsl */ `
${multiplyHeads("slope", VALUE_ROWS, GRAD_ROWS, spec)}
${each(spec.threadRows, (r) => `    slope_${r} = score_${r} * (slope_${r} - means);`)}
${storeWeights("slope", spec)}`;
}

function storeHead(
  spec: GradKvSpec,
  own: number,
  { name, skip, sum, factor }: { name: string; skip: string; sum: string; factor: string },
): string {
  const base = `params.${name}_at + ${skip} + first_row * params.${name}_stride + key_head * HEAD_DIM`;
  return storeSums(spec, own, {
    first: "tile_row",
    end: "params.length",
    store: (r, o) => `store_${name}(${base}, row, part, ${sum}_${r}_${o}${factor});`,
  });
}
