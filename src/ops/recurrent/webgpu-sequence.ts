// Many steps of a recurrence in one dispatch, for states that are small: a workgroup has a sequence, its threads keep the
// weight, and the state goes round through workgroup memory.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { GATES } from "./cells.ts";
import type { CellSpec } from "./webgpu-cells.ts";
import { CELL_PARAMS, cellAccess, cellBuffers, cellOf } from "./webgpu-cells.ts";

/** Units of a state that a workgroup can hold; and steps of a dispatch, at the most: a GPU must answer in time. */
const MOST_UNITS = 128;
export const MOST_STEPS = 1024;
const LEAST_UNITS = 16;
/** Vectors of the weight that a thread keeps, at the most: beyond half of that they come from the first cache. */
const MOST_KEPT = 32;

/** A part of a kernel's specification. */
export type SequenceTile = {
  readonly threads: number;
  /** Units, rounded up to a power of two. */
  readonly units: number;
  /** Units of the state before that a thread multiplies: with so many vectors, one number a gate. */
  readonly kept: number;
};

/** How a workgroup runs whole sequences; undefined where the state is too large for that. */
export function chooseSequenceTile(backend: WebGpuBackend, dHidden: number): SequenceTile | undefined {
  if (dHidden > MOST_UNITS) return undefined;
  const units = Math.max(LEAST_UNITS, 2 ** Math.ceil(Math.log2(dHidden)));
  const most = backend.device.limits.maxComputeInvocationsPerWorkgroup;
  const threads = units > 64 && most >= 512 ? 512 : 256;
  const kept = Math.ceil((dHidden * units) / threads);
  return kept > MOST_KEPT ? undefined : { threads, units, kept };
}

export const SEQUENCE_TILE_SAMPLES: readonly SequenceTile[] = [
  { threads: 256, units: 32, kept: 3 },
  { threads: 256, units: 64, kept: 16 },
];

/** WGSL: the constants of a tile, and the vectors that a thread keeps. Named one by one: they are to be registers. */
export function keptOf({ threads, units, kept }: SequenceTile): string {
  return /* wgsl */ `
const THREADS = ${threads}u;
const UNITS = ${units}u;
const LANES = ${threads / units}u;
const KEPT = ${kept}u;
${forKept({ kept }, (i) => `var<private> kept${i}: vec4f;`)}`;
}

export function forKept({ kept }: { kept: number }, text: (index: number) => string): string {
  return Array.from({ length: kept }, (_, i) => text(i)).join("\n");
}

/** WGSL: one number a gate of the weight, of the product of gate `row` with `column`. */
export function gateWeights(cell: "lstm" | "gru"): string {
  const at = (gate: number): string =>
    gate < GATES[cell] ? `weight[at + ${gate}u * params.dHidden * params.weight_stride]` : "0.0";
  return /* wgsl */ `
fn gate_weights(row: u32, column: u32) -> vec4f {
  if (row >= params.dHidden || column >= params.dHidden) { return vec4f(); }
  let at = params.weight_at + row * params.weight_stride + column;
  return vec4f(${[0, 1, 2, 3].map(at).join(", ")});
}`;
}

export type SequenceSpec = CellSpec & SequenceTile;

/** Tokens [first, end) of a sequence a workgroup. Threads of one lane share a part of the sum of every unit. */
export const recurrentSequence: KernelFamily<SequenceSpec> = defineKernel<SequenceSpec>(
  "recurrentSequence",
  [
    { cell: "lstm", gates: "f32", y: "f32", starts: true, saves: true, ...SEQUENCE_TILE_SAMPLES[0] },
    { cell: "gru", gates: "f16", y: "f16", starts: false, saves: false, ...SEQUENCE_TILE_SAMPLES[1] },
  ],
  ({ threads, units, kept, ...spec }) => {
    const tile = { threads, units, kept };
    return {
      buffers: { weight: "read f32", ...cellBuffers(spec) },
      params: ["first", "end", ...CELL_PARAMS],
      body: /* wgsl */ `${keptOf(tile)}${cellOf(spec.cell)}${cellAccess(spec)}${gateWeights(spec.cell)}
var<workgroup> hidden: array<f32, LANES * KEPT>;
var<workgroup> parts: array<vec4f, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let sequence = group.x + group.y * groups.x;
  if (sequence >= params.batch) { return; }
  let unit = thread % UNITS;
  let from_unit = (thread / UNITS) * KEPT;
  ${forKept(tile, (i) => `kept${i} = gate_weights(unit, from_unit + ${i}u);`)}
  let is_unit = thread < params.dHidden;
  var own = vec4f();
  var bias = vec4f();
  var state = Cell(0.0, 0.0, vec4f());
  if (is_unit) {
    own = own_of(sequence, params.first, thread);
    bias = bias_of(thread);
    state.h = state_of(sequence, params.first, thread);
    ${spec.cell === "lstm" ? "state.c = state_of(sequence, params.first, params.dHidden + thread);" : ""}
    hidden[thread] = state.h;
  }
  for (var t = params.first; t < params.end; t++) {
    workgroupBarrier();
    var sum = vec4f();
    ${forKept(tile, (i) => `sum += kept${i} * hidden[from_unit + ${i}u];`)}
    parts[thread] = sum;
    workgroupBarrier();
    if (is_unit) {
      for (var lane = 1u; lane < LANES; lane++) { sum += parts[lane * UNITS + thread]; }
      let now = own;
      if (t + 1u < params.end) { own = own_of(sequence, t + 1u, thread); }
      state = store_cell(sequence, t, thread, cell(now, sum + bias, state.h, state.c));
      hidden[thread] = state.h;
    }
  }
}`,
    };
  },
);
