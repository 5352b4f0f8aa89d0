// What is small of a selective scan, packed into one buffer of float32: WebGPU promises a kernel no more than eight.
// A is in powers of two; what is absent is zero; states are padded to whole vectors. Layout: README.md.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Buffers } from "./webgpu-kind.ts";
import type { ScanPiece } from "./webgpu-pieces.ts";
import { loadQuad } from "./webgpu-wgsl.ts";

interface PackSizes {
  readonly dInner: number;
  readonly dState: number;
  readonly groups: number;
  /** Vectors of four that the states of a channel, or B of a step, take. */
  readonly stepVectors: number;
}

/** Where the parts of a packed buffer begin, in vectors of four; parameters of every kernel that reads it. */
export type PackedPlaces = Readonly<Record<(typeof PACKED_PARAMS)[number], number>>;

export const PACKED_PARAMS = ["packed_row", "packed_A", "packed_D", "packed_bias", "packed_kept"] as const;

/** Vectors of four of a step: B and C of each group, a quarter for whether it begins a document. */
const vectorsOfStep = (groups: number, stepVectors: number): number => 2 * groups * stepVectors + 0.25;

/** Steps whose packed buffer fits into a binding. */
export function mostPackedRows(
  backend: WebGpuBackend,
  { dInner, groups, stepVectors }: Pick<PackSizes, "dInner" | "groups" | "stepVectors">,
): number {
  const rest = (backend.maxBindingBytes - 512) / 16 - dInner * stepVectors - 2 * Math.ceil(dInner / 4) - 1;
  return Math.max(1, Math.floor(rest / vectorsOfStep(groups, stepVectors)));
}

/** The packed buffer of a piece, the caller's to dispose of, and its places. */
export function packScan(
  backend: WebGpuBackend,
  buffers: Buffers,
  { sequences, steps }: ScanPiece,
  { dInner, dState, groups, stepVectors }: PackSizes,
): { packed: Tensor; places: PackedPlaces } {
  const rows = sequences * steps;
  const channelVectors = Math.ceil(dInner / 4);
  const packed_row = 2 * groups * stepVectors;
  const packed_A = rows * packed_row;
  const packed_D = packed_A + dInner * stepVectors;
  const packed_bias = packed_D + channelVectors;
  const packed_kept = packed_bias + channelVectors;
  const places = { packed_row, packed_A, packed_D, packed_bias, packed_kept };
  const hasStarts = buffers.document_starts !== undefined;
  const count = packed_kept + (hasStarts ? Math.ceil(rows / 4) : 0);
  const packed = emptyTensor(backend, [4 * count]);
  const kernel = scanPack({
    typeB: buffers.B.dtype,
    typeC: buffers.C.dtype,
    hasD: buffers.D !== undefined,
    hasBias: buffers.dt_bias !== undefined,
    hasStarts,
  });
  const params = { ...places, count, rows, steps, d_inner: dInner, d_state: dState, step_vectors: stepVectors };
  backend.dispatch(kernel, { ...buffers, packed }, params, groupsFor(count, PACK_WORKGROUP));
  return { packed, places };
}

const PACK_WORKGROUP = 256;

type PackSpec = {
  readonly typeB: string;
  readonly typeC: string;
  readonly hasD: boolean;
  readonly hasBias: boolean;
  readonly hasStarts: boolean;
};

/** A thread a vector of four. */
const scanPack: KernelFamily<PackSpec> = defineKernel<PackSpec>(
  "scanPack",
  [
    { typeB: "f32", typeC: "f32", hasD: true, hasBias: true, hasStarts: true },
    { typeB: "f32", typeC: "f16", hasD: false, hasBias: false, hasStarts: false },
  ],
  ({ typeB, typeC, hasD, hasBias, hasStarts }) => ({
    buffers: {
      A: "read f32",
      B: `read ${typeB}`,
      C: `read ${typeC}`,
      ...(hasD ? { D: "read f32" } : {}),
      ...(hasBias ? { dt_bias: "read f32" } : {}),
      ...(hasStarts ? { document_starts: "read i32" } : {}),
      packed: "write vec4<f32>",
    },
    params: ["count", "rows", "steps", "d_inner", "d_state", "step_vectors", ...PACKED_PARAMS],
    body: /* wgsl */ `
const LOG2_E = 1.4426950408889634;
${["A", "B", "C"].map((name) => loadQuad(name, false)).join("")}
${channelPart("D", hasD)}
${channelPart("dt_bias", hasBias)}

// B and C of a step: by group, B before C.
fn part_of_step(i: u32) -> vec4f {
  let row = i / params.packed_row;
  let matrix = (i % params.packed_row) / params.step_vectors;
  let n = (i % params.step_vectors) * 4u;
  if (n >= params.d_state) { return vec4f(); }
  let column = (matrix / 2u) * params.d_state + n;
  if (matrix % 2u == 0u) { return load_B(row, column, params.d_state - n); }
  return load_C(row, column, params.d_state - n);
}

fn part_of_A(i: u32) -> vec4f {
  let n = (i % params.step_vectors) * 4u;
  if (n >= params.d_state) { return vec4f(); }
  return LOG2_E * load_A(i / params.step_vectors, n, params.d_state - n);
}
${hasStarts ? KEPT_PART : ""}

@compute @workgroup_size(${PACK_WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${PACK_WORKGROUP}u + thread;
  if (i >= params.count) { return; }
  var part = vec4f();
  if (i < params.packed_A) { part = part_of_step(i); }
  else if (i < params.packed_D) { part = part_of_A(i - params.packed_A); }
  else if (i < params.packed_bias) { part = part_of_D(4u * (i - params.packed_D)); }
  else if (i < params.packed_kept) { part = part_of_dt_bias(4u * (i - params.packed_bias)); }
  ${hasStarts ? "else { part = part_of_kept(4u * (i - params.packed_kept)); }" : ""}
  packed[i] = part;
}`,
  }),
);

/** `part_of_NAME(channel)`: four elements of a vector over channels; zeros where there is none. */
function channelPart(name: string, isThere: boolean): string {
  if (!isThere) return `fn part_of_${name}(channel: u32) -> vec4f { return vec4f(); }`;
  return /* wgsl */ `${loadQuad(name, false)}
fn part_of_${name}(channel: u32) -> vec4f { return load_${name}(0u, channel, params.d_inner - channel); }`;
}

const KEPT_PART = /* wgsl */ `
// 0 where a document starts, else 1.
fn part_of_kept(first_row: u32) -> vec4f {
  var kept = vec4f(1.0);
  for (var k = 0u; k < min(4u, params.rows - first_row); k++) {
    let row = first_row + k;
    let at = params.document_starts_at + (row / params.steps) * params.document_starts_stride + row % params.steps;
    if (document_starts[at] != 0) { kept[k] = 0.0; }
  }
  return kept;
}`;

/**
 * WGSL that reads a packed buffer: `load_A(channel, n)`, `load_B(row, B_group, n)`, `load_C`: four states from n on,
 * which may be padding; `load_D(channel, count)`, `load_dt_bias`: zeros beyond the first `count`; `load_kept(row)`.
 * STEP_VECTORS is the kernel's.
 */
export const LOAD_PACKED = /* wgsl */ `
fn load_A(channel: u32, n: u32) -> vec4f { return packed[params.packed_A + channel * STEP_VECTORS + n / 4u]; }
fn load_B(row: u32, B_group: u32, n: u32) -> vec4f {
  return packed[row * params.packed_row + B_group * 2u * STEP_VECTORS + n / 4u];
}
fn load_C(row: u32, B_group: u32, n: u32) -> vec4f {
  return packed[row * params.packed_row + (B_group * 2u + 1u) * STEP_VECTORS + n / 4u];
}
fn packed_at(at: u32) -> f32 { return packed[at / 4u][at % 4u]; }
fn load_channels(at: u32, count: u32) -> vec4f {
  let quad = vec4f(packed_at(at), packed_at(at + 1u), packed_at(at + 2u), packed_at(at + 3u));
  return select(vec4f(), quad, vec4u(0u, 1u, 2u, 3u) < vec4u(count));
}
fn load_D(channel: u32, count: u32) -> vec4f { return load_channels(4u * params.packed_D + channel, count); }
fn load_dt_bias(channel: u32, count: u32) -> vec4f { return load_channels(4u * params.packed_bias + channel, count); }
fn load_kept(row: u32) -> f32 { return packed_at(4u * params.packed_kept + row); }`;
