// Pairs (token, slot) sorted by expert on the WebGPU backend, each expert's padded to whole tiles: a counting sort in two
// kernels, whose order is always the same. Nothing is read back: the host knows the most tiles that there can be.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { TensorSpec } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, fillZero } from "../../tensor/tensor.ts";
import { NO_ENTRY } from "../linear/webgpu-entries.ts";

/** Pairs of a workgroup that sorts. */
const BLOCK = 256;
/** Experts whose counts a workgroup adds up at a time, and threads that share those of one. */
const SPAN = 32;
const LANES = 8;

/** Places of the pairs, in rows of tiles. */
export type Sorted = {
  /** i32 [rows]: 1 + the pair at a place, 0 where there is none. */
  readonly order: Tensor;
  /** i32 [pairs]: the place of a pair. */
  readonly places: Tensor;
  /** i32 [experts + 1]: where the places of each expert begin, and where the last end. */
  readonly starts: Tensor;
  /** i32 [tiles]: the expert of a tile, or NO_ENTRY. */
  readonly tiles: Tensor;
};

/** How many pairs there are, of how many experts, and rows of a tile. */
export interface SortSizes {
  readonly pairs: number;
  readonly experts: number;
  readonly tileRows: number;
}

/** The most tiles that may be needed: each expert that is chosen leaves less than one unfilled. */
export function mostTiles({ pairs, experts, tileRows }: SortSizes): number {
  return Math.floor((pairs + Math.min(pairs, experts) * (tileRows - 1)) / tileRows);
}

export function sortedSpecs(sizes: SortSizes): { readonly [K in keyof Sorted]: TensorSpec } {
  const tiles = mostTiles(sizes);
  return {
    order: { shape: [tiles * sizes.tileRows], dtype: "i32" },
    places: { shape: [sizes.pairs], dtype: "i32" },
    starts: { shape: [sizes.experts + 1], dtype: "i32" },
    tiles: { shape: [tiles], dtype: "i32" },
  };
}

export function sortPairs(backend: WebGpuBackend, choices: Tensor, sorted: Sorted, sizes: SortSizes): void {
  const { pairs, experts, tileRows } = sizes;
  const blocks = Math.ceil(pairs / BLOCK);
  const counts = emptyTensor(backend, [blocks, experts], "i32");
  fillZero(sorted.order);
  backend.dispatch(countExperts({ experts }), { choices, counts }, { pairs }, [blocks]);
  const params = { pairs, blocks, tileRows, mostTiles: mostTiles(sizes) };
  backend.dispatch(placePairs({ experts }), { choices, counts, ...sorted }, params, [blocks]);
  counts.dispose();
}

type SortSpec = { readonly experts: number };

const HEADER = ({ experts }: SortSpec): string => /* wgsl */ `
const EXPERTS = ${experts}u;
const BLOCK = ${BLOCK}u;
/** The experts of a block's pairs; EXPERTS behind the last. */
var<workgroup> keys: array<u32, BLOCK>;

fn key_of(pair: u32) -> u32 {
  if (pair >= params.pairs) { return EXPERTS; }
  return min(choices[params.choices_at + pair], EXPERTS - 1u);
}

@compute @workgroup_size(BLOCK)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let pair = group.x * BLOCK + thread;
  let key = key_of(pair);
  keys[thread] = key;
  workgroupBarrier();`;

/** counts[block][expert]. */
const countExperts: KernelFamily<SortSpec> = defineKernel<SortSpec>("countExperts", [{ experts: 5 }], (spec) => ({
  buffers: { choices: "read u32", counts: "write u32" },
  params: ["pairs"],
  body: /* wgsl */ `${HEADER(spec)}
  for (var e = thread; e < EXPERTS; e += BLOCK) {
    var count = 0u;
    for (var i = 0u; i < BLOCK; i++) { count += u32(keys[i] == e); }
    counts[params.counts_at + group.x * EXPERTS + e] = count;
  }
}`,
}));

/** WGSL: from the counts of all blocks, how many pairs of each expert come in earlier blocks, and the first tile of each. */
const ADD_COUNTS = /* wgsl */ `
  for (var first = 0u; first < EXPERTS; first += SPAN) {
    let e = first + thread % SPAN;
    let lane = thread / SPAN;
    var sum = vec2u();
    if (e < EXPERTS) {
      for (var block = lane; block < params.blocks; block += LANES) {
        let count = counts[params.counts_at + block * EXPERTS + e];
        sum += vec2u(select(0u, count, block < group.x), count);
      }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if (lane == 0u && e < EXPERTS) {
      for (var other = 1u; other < LANES; other++) { sum += sums[other * SPAN + thread]; }
      earlier[e] = sum.x;
      first_tile[e + 1u] = (sum.y + params.tileRows - 1u) / params.tileRows;
    }
    workgroupBarrier();
  }
  if (thread == 0u) {
    var tile = 0u;
    first_tile[0] = 0u;
    for (var e = 1u; e <= EXPERTS; e++) {
      tile += first_tile[e];
      first_tile[e] = tile;
    }
  }
  workgroupBarrier();`;

const placePairs: KernelFamily<SortSpec> = defineKernel<SortSpec>("placePairs", [{ experts: 5 }], (spec) => ({
  buffers: {
    choices: "read u32",
    counts: "read u32",
    order: "add u32",
    places: "write u32",
    starts: "write u32",
    tiles: "write u32",
  },
  params: ["pairs", "blocks", "tileRows", "mostTiles"],
  body: /* wgsl */ `
const SPAN = ${SPAN}u;
const LANES = ${LANES}u;
var<workgroup> sums: array<vec2u, SPAN * LANES>;
var<workgroup> earlier: array<u32, EXPERTS>;
var<workgroup> first_tile: array<u32, EXPERTS + 1>;
${HEADER(spec)}
${ADD_COUNTS}
  if (key < EXPERTS) {
    var place = first_tile[key] * params.tileRows + earlier[key];
    for (var i = 0u; i < thread; i++) { place += u32(keys[i] == key); }
    order[params.order_at + place] = pair + 1u;
    places[params.places_at + pair] = place;
  }
  if (group.x > 0u) { return; }
  for (var e = thread; e <= EXPERTS; e += BLOCK) { starts[params.starts_at + e] = first_tile[e] * params.tileRows; }
  for (var tile = thread; tile < params.mostTiles; tile += BLOCK) {
    var expert = ${NO_ENTRY}u;
    for (var e = 0u; e < EXPERTS; e++) {
      if (first_tile[e] <= tile && tile < first_tile[e + 1u]) { expert = e; }
    }
    tiles[params.tiles_at + tile] = expert;
  }
}`,
}));
