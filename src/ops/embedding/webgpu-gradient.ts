// The gradient of embedding on the WebGPU backend, the same bits every time and however the ids repeat: positions sorted
// by their id, sums over tiles of them, and a kernel that joins the sums of ids that lie in several tiles. See README.md.
import type { Groups, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, zeros } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { floatsOf, splitRows, vectorAt, vectorType, vectorUse, vectorWidthOf } from "../webgpu-elements.ts";

/** Threads of a workgroup that sorts, and keys that it compares with at a time. */
const SORT_WORKGROUP = 256;
/** Workgroups that sort, about, where there is work for so many. */
const SORT_GROUPS = 1024;
/** Sorted positions of a tile, threads over its columns, and rows read at a time. */
const TILE = 32;
const COLUMN_THREADS = 64;
const AT_ONCE = 8;

/**
 * to[ids[i]] += rows[i] for all i; ids outside of `to` are left out.
 * @param ids i32 `[...]`  @param rows `[..., columns]`, one an id  @param to `[count, columns]`
 */
export function addRowsById(backend: WebGpuBackend, ids: Tensor, rows: Tensor, to: Tensor): void {
  splitRows(backend, { rows }, (ofRows, first) =>
    scope(() => {
      const sorted = sortPositions(backend, ids, { first, count: ofRows.rows.rows, limit: to.rows });
      splitRows(backend, { to }, (ofTo, firstId) => addSorted(backend, sorted, ofRows.rows, ofTo.to, firstId));
    }),
  );
}

/** (position, id) of ids [first, first + count), by id and then by position. Ids not below `limit` come last, as `limit`. */
function sortPositions(
  backend: WebGpuBackend,
  ids: Tensor,
  { first, count, limit }: { first: number; count: number; limit: number },
): Tensor {
  const ranks = zeros(backend, [count], "i32");
  const sorted = emptyTensor(backend, [count, 2], "i32");
  const tiles = Math.ceil(count / SORT_WORKGROUP);
  const parts = Math.min(tiles, Math.ceil(SORT_GROUPS / tiles));
  const params = { first, count, limit, idColumns: ids.columns };
  const tilesAPart = Math.ceil(tiles / parts);
  backend.dispatch(rankIds({}), { ids, ranks }, { ...params, tilesAPart }, [tiles, parts]);
  backend.dispatch(orderByRank({}), { ids, ranks, sorted }, params, groupsFor(count, SORT_WORKGROUP));
  return sorted;
}

function addSorted(backend: WebGpuBackend, sorted: Tensor, rows: Tensor, to: Tensor, firstId: number): void {
  const width = vectorWidthOf(rows, to);
  const columns = to.columns / width;
  const tiles = Math.ceil(rows.rows / TILE);
  const partials = emptyTensor(backend, [2 * tiles, to.columns]);
  const params = { columns, count: rows.rows, firstId, ids: to.rows };
  const spec = { rows: rows.dtype, to: to.dtype, width };
  const [y, z = 1] = groupsFor(tiles, 1);
  const groups: Groups = [Math.ceil(columns / COLUMN_THREADS), y, z];
  backend.dispatch(sumTiles(spec), { sorted, rows, to, partials }, params, groups);
  backend.dispatch(joinTiles(spec), { sorted, to, partials }, params, groups);
}

const KEY = /* wgsl */ `
/** The id at a position, at most \`limit\`: a negative one is large when seen as u32. */
fn key_of(i: u32) -> u32 {
  let position = params.first + i;
  let at = params.ids_at + (position / params.idColumns) * params.ids_stride + position % params.idColumns;
  return min(u32(ids[at]), params.limit);
}`;

/** ranks[i] += how many of a part of the ids come before id i. Sums of whole numbers do not depend on their order. */
const rankIds = defineKernel<Record<string, never>>("rankIds", [{}], () => ({
  buffers: { ids: "read i32", ranks: "add atomic<u32>" },
  params: ["first", "count", "limit", "idColumns", "tilesAPart"],
  body: /* wgsl */ `${KEY}
const TILE = ${SORT_WORKGROUP}u;
var<workgroup> keys: array<vec4<u32>, TILE / 4>;

@compute @workgroup_size(TILE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = group.x * TILE + thread;
  let key = key_of(min(i, params.count - 1u));
  let tiles = (params.count + TILE - 1u) / TILE;
  let end = min((group.y + 1u) * params.tilesAPart, tiles);
  var before = vec4u(0);
  for (var tile = group.y * params.tilesAPart; tile < end; tile++) {
    if (thread < TILE / 4u) {
      for (var j = 0u; j < 4u; j++) {
        let other = tile * TILE + 4u * thread + j;
        keys[thread][j] = select(0xffffffffu, key_of(min(other, params.count - 1u)), other < params.count);
      }
    }
    workgroupBarrier();
    // Equal ids count where they come before: all of an earlier tile, none of a later one.
    let limit = vec4u(key + select(0u, 1u, tile < group.x));
    if (tile != group.x) {
      for (var j = 0u; j < TILE / 4u; j++) { before += vec4u(keys[j] < limit); }
    } else {
      for (var j = 0u; j < TILE / 4u; j++) {
        before += vec4u(keys[j] < limit + vec4u((vec4u(0, 1, 2, 3) + 4u * j) < vec4u(thread)));
      }
    }
    workgroupBarrier();
  }
  if (i < params.count) { atomicAdd(&ranks[params.ranks_at + i], before.x + before.y + before.z + before.w); }
}`,
}));

/** sorted[ranks[i]] = (i, id i). */
const orderByRank = defineKernel<Record<string, never>>("orderByRank", [{}], () => ({
  buffers: { ids: "read i32", ranks: "read u32", sorted: "write vec2<u32>" },
  params: ["first", "count", "limit", "idColumns"],
  body: /* wgsl */ `${KEY}

@compute @workgroup_size(${SORT_WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${SORT_WORKGROUP}u + thread;
  if (i < params.count) { sorted[params.sorted_at / 2u + ranks[params.ranks_at + i]] = vec2u(i, key_of(i)); }
}`,
}));

/** What both kernels over tiles share. Row 2 t of `partials`: of the id that began before tile t; row 2 t + 1: of the one that ends after it. */
const tileHeader = (width: VectorWidth, to: string): string => /* wgsl */ `${floatsOf(width)}
const TILE = ${TILE}u;
/** The id at a sorted position; beyond the ends one that is no id. */
fn sorted_key(i: u32) -> u32 {
  if (i >= params.count) { return 0xffffffffu; }
  return sorted[params.sorted_at / 2u + i].y;
}
fn add_to_row(id: u32, column: u32, sum: Floats) {
  let row = id - params.firstId;
  if (row < params.ids) { ${vectorAt("to")} = ${vectorType(to, width)}(Floats(${vectorAt("to")}) + sum); }
}`;

type TileSpec = { rows: string; to: string; width: VectorWidth };
const TILE_SAMPLES: readonly TileSpec[] = [
  { rows: "f32", to: "f32", width: 4 },
  { rows: "f16", to: "f32", width: 1 },
];
const TILE_PARAMS = ["columns", "count", "firstId", "ids"];
const TILE_ENTRY = /* wgsl */ `
@compute @workgroup_size(${COLUMN_THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let column = group.x * ${COLUMN_THREADS}u + thread;
  let tile = group.y + group.z * groups.y;
  let first = tile * TILE;`;

/** Sums of the ids of a tile: to their rows where all of an id lies in the tile, else to `partials`. */
const sumTiles = defineKernel<TileSpec>("embeddingSumTiles", TILE_SAMPLES, ({ rows, to, width }) => ({
  buffers: {
    sorted: "read vec2<u32>",
    rows: `read ${vectorType(rows, width)}`,
    to: vectorUse(`add ${to}`, width),
    partials: vectorUse("add f32", width),
  },
  params: TILE_PARAMS,
  body: /* wgsl */ `${tileHeader(width, to)}
const AT_ONCE = ${AT_ONCE}u;
${TILE_ENTRY}
  if (column >= params.columns || first >= params.count) { return; }
  var last_key = select(0xffffffffu, sorted_key(first - 1u), first > 0u);
  var is_older = last_key == sorted_key(first);
  var sum = Floats(0);
  let end = min(TILE, params.count - first);
  for (var start = 0u; start < end; start += AT_ONCE) {
    var values: array<Floats, AT_ONCE>;
    for (var i = 0u; i < AT_ONCE; i++) {
      let at = min(first + start + i, params.count - 1u);
      values[i] = Floats(${vectorAt("rows", "sorted[params.sorted_at / 2u + at].x")});
    }
    for (var i = 0u; i < AT_ONCE; i++) {
      let at = first + start + i;
      if (at >= params.count) { return; }
      let key = sorted_key(at);
      sum += values[i];
      let is_end_of_tile = start + i == TILE - 1u;
      let goes_on = sorted_key(at + 1u) == key;
      if (goes_on && !is_end_of_tile) { continue; }
      if (is_older) {
        ${vectorAt("partials", "2u * tile")} = sum;
      } else if (goes_on) {
        ${vectorAt("partials", "2u * tile + 1u")} = sum;
      } else {
        add_to_row(key, column, sum);
      }
      is_older = false;
      sum = Floats(0);
    }
  }
}`,
}));

/** For an id that begins in this tile and ends in a later one: the sum of all its parts, in their order. */
const joinTiles = defineKernel<TileSpec>("embeddingJoinTiles", TILE_SAMPLES, ({ to, width }) => ({
  buffers: {
    sorted: "read vec2<u32>",
    to: vectorUse(`add ${to}`, width),
    partials: `read ${vectorType("f32", width)}`,
  },
  params: TILE_PARAMS,
  body: /* wgsl */ `${tileHeader(width, to)}
${TILE_ENTRY}
  let end = first + TILE;
  if (column >= params.columns || end >= params.count) { return; }
  let key = sorted_key(end);
  let is_older = first > 0u && sorted_key(first - 1u) == key;
  if (sorted_key(end - 1u) != key || is_older) { return; }
  var sum = ${vectorAt("partials", "2u * tile + 1u")};
  for (var other = tile + 1u; sorted_key(other * TILE) == key && sorted_key(other * TILE - 1u) == key; other++) {
    sum += ${vectorAt("partials", "2u * other")};
  }
  add_to_row(key, column, sum);
}`,
}));
