// WebGPU kernels that need a sum over each row: how many threads share a row, and how they add up.
import type { WebGpuBackend } from "../backends/webgpu/index.ts";

/** Vectors of a row that a thread keeps, where a row is shared by as few threads as possible. */
const ITEMS = 8;
/** Rows of a workgroup at a time, where a row belongs to one subgroup. */
const ROWS_AT_ONCE = 4;
const LEAST_LANES = 32;
const MOST_LANES = 256;

/** A part of a kernel's specification. */
export type RowSharing = {
  /** Threads of a row, a power of two. */
  readonly lanes: number;
  /** Rows of a workgroup at a time. More than one only where a row belongs to one subgroup. */
  readonly rowsAtOnce: number;
  /** Vectors of a row that a thread has at the most. */
  readonly items: number;
  /** Threads of a subgroup, where that is known and subgroups may be used; else 0. */
  readonly subgroup: number;
};

/** How to share rows of so many vectors. It follows from the width and the device alone, so a row's sum has one order. */
export function rowSharingOf(backend: WebGpuBackend, vectors: number): RowSharing {
  const [least, most] = backend.about.subgroupSize;
  const subgroup = backend.has("subgroups") && least === most ? least : 0;
  if (subgroup > 0 && subgroup <= MOST_LANES / ROWS_AT_ONCE && vectors <= ITEMS * subgroup)
    return { lanes: subgroup, rowsAtOnce: ROWS_AT_ONCE, items: Math.ceil(vectors / subgroup), subgroup };
  const wanted = 2 ** Math.ceil(Math.log2(vectors / ITEMS));
  const lanes = Math.min(MOST_LANES, Math.max(LEAST_LANES, wanted));
  return { lanes, rowsAtOnce: 1, items: Math.ceil(vectors / lanes), subgroup: subgroup <= lanes ? subgroup : 0 };
}

/** Specifications of all three ways, for the samples of a family. */
export const SHARING_SAMPLES: readonly RowSharing[] = [
  { lanes: 32, rowsAtOnce: 4, items: 6, subgroup: 32 },
  { lanes: 128, rowsAtOnce: 1, items: 5, subgroup: 32 },
  { lanes: 64, rowsAtOnce: 1, items: 2, subgroup: 0 },
];

/**
 * WGSL: the constants LANES, ROWS, ITEMS and the function `row_sum(value, thread) -> f32`, the sum over the threads of a
 * row, in all of them. To be called in uniform control flow.
 */
export function rowSumOf({ lanes, rowsAtOnce, items, subgroup }: RowSharing): string {
  const add = subgroup === 0 ? ADD_IN_TREE : subgroup === lanes ? ADD_IN_SUBGROUP : addSubgroups(subgroup);
  return /* wgsl */ `
const LANES = ${lanes}u;
const ROWS = ${rowsAtOnce}u;
const ITEMS = ${items}u;${add}`;
}

const ADD_IN_SUBGROUP = /* wgsl */ `
fn row_sum(value: f32, thread: u32) -> f32 { return subgroupAdd(value); }`;

const addSubgroups = (subgroup: number): string => /* wgsl */ `
const SUBGROUP = ${subgroup}u;
var<workgroup> row_parts: array<f32, LANES / SUBGROUP>;
fn row_sum(value: f32, thread: u32) -> f32 {
  let part = subgroupAdd(value);
  if (thread % SUBGROUP == 0u) { row_parts[thread / SUBGROUP] = part; }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < LANES / SUBGROUP; i++) { sum += row_parts[i]; }
  workgroupBarrier();
  return sum;
}`;

const ADD_IN_TREE = /* wgsl */ `
var<workgroup> row_parts: array<f32, LANES>;
fn row_sum(value: f32, thread: u32) -> f32 {
  row_parts[thread] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (thread < half) { row_parts[thread] += row_parts[thread + half]; }
    workgroupBarrier();
  }
  let sum = row_parts[0];
  workgroupBarrier();
  return sum;
}`;
