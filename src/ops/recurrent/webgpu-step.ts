// One step of a recurrence for all sequences: the product of the state with the weight, and the cells, in one dispatch.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { GATES } from "./cells.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { vectorType } from "../webgpu-elements.ts";
import type { CellSpec } from "./webgpu-cells.ts";
import { CELL_PARAMS, cellAccess, cellBuffers, cellOf } from "./webgpu-cells.ts";
import type { StepTile } from "./webgpu-tiles.ts";
import { forRows, STEP_THREADS, STEP_TILE_SAMPLES, stagingOf, sumOverLanes } from "./webgpu-tiles.ts";

/** Units of a workgroup, from many to few. */
export const STEP_UNITS = [16, 8, 4] as const;

/** Threads that share the sums of a unit. */
export function stepLanes({ units }: { units: number }): number {
  return STEP_THREADS / units;
}

export type StepSpec = CellSpec & StepTile & { readonly width: VectorWidth };

/**
 * Token `t` of all sequences. Each unit of a tile has so many lanes of threads, which share the columns of its rows of the
 * weight: neighbours read neighbouring vectors. Every vector of the weight serves all sequences of the tile.
 */
export const recurrentStep: KernelFamily<StepSpec> = defineKernel<StepSpec>(
  "recurrentStep",
  [
    { cell: "lstm", gates: "f32", y: "f32", starts: true, saves: true, ...STEP_TILE_SAMPLES[0], width: 4 },
    { cell: "gru", gates: "f16", y: "f16", starts: false, saves: false, ...STEP_TILE_SAMPLES[1], width: 1 },
  ],
  ({ width, units, rows, rowsAtOnce, ...spec }) => {
    const tile = { units, rows, rowsAtOnce };
    const gates = Array.from({ length: GATES[spec.cell] }, (_, gate) => gate);
    return {
      buffers: { weight: `read ${vectorType("f32", width)}`, ...cellBuffers(spec) },
      params: ["t", "lanes", ...CELL_PARAMS],
      body: /* wgsl */ `
const UNITS = ${units}u;
const LANES = ${stepLanes(tile)}u;
${cellOf(spec.cell)}${cellAccess(spec)}
${operandsOf(width)}${stagingOf(tile)}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % LANES;
  let unit = min(group.x * UNITS + thread / LANES, params.dHidden - 1u);
  let first_row = group.y * ROWS;
  // A thread has a cell too, of a sequence and a unit: what it needs is on its way during the product.
  let pair_row = thread / UNITS;
  let pair_unit = group.x * UNITS + thread % UNITS;
  let sequence = first_row + pair_row;
  let is_pair = pair_row < ROWS && sequence < params.batch && pair_unit < params.dHidden;
  var own = vec4f();
  var h_before = 0.0;
  var c_before = 0.0;
  if (is_pair) {
    own = own_of(sequence, params.t, pair_unit);
    h_before = state_of(sequence, params.t, pair_unit);
    ${spec.cell === "lstm" ? "c_before = state_of(sequence, params.t, params.dHidden + pair_unit);" : ""}
  }
  ${forRows(tile, (row) => `var sum${row} = vec4f();`)}
  let vectors = (params.dHidden + 3u) / 4u;
  for (var first = 0u; first < vectors; first += CHUNK) {
    stage(first, first_row, thread);
    workgroupBarrier();
    let end = min(CHUNK, vectors - first);
    for (var i = lane; i < end; i += LANES) {
      ${gates.map((gate) => `let w${gate} = weights(${gate}u * params.dHidden + unit, first + i);`).join("\n      ")}
      var h: vec4f;
      ${forRows(
        tile,
        (row) => `h = staged[${row}u * CHUNK + i];
      sum${row} += vec4f(${[0, 1, 2, 3].map((gate) => (gate < gates.length ? `dot(w${gate}, h)` : "0.0")).join(", ")});`,
      )}
    }
    workgroupBarrier();
  }
  var sums = vec4f();
  ${sumOverLanes(tile, { step: 1, take: "sums = parts[from_row + (thread % UNITS) * LANES];" })}
  if (is_pair) {
    let made = cell(own, sums + bias_of(pair_unit), h_before, c_before);
    store_cell(sequence, params.t, pair_unit, made);
  }
}`,
    };
  },
);

/** WGSL: four numbers of a row of the weight, and of the state of a sequence, which is 0 beyond its end. */
function operandsOf(width: VectorWidth): string {
  return /* wgsl */ `
fn weights(row: u32, index: u32) -> vec4f {
  ${weightVector(width)}
}
fn vector_of(sequence: u32, index: u32) -> vec4f {
  let at = state_at(sequence, params.t);
  let k = 4u * index;
  var h = vec4f();
  if (k < params.dHidden) { h.x = before[at + k]; }
  if (k + 1u < params.dHidden) { h.y = before[at + k + 1u]; }
  if (k + 2u < params.dHidden) { h.z = before[at + k + 2u]; }
  if (k + 3u < params.dHidden) { h.w = before[at + k + 3u]; }
  return h;
}
`;
}

/** Four numbers of a row of the weight; what lies beyond its end counts for nothing, for the state is 0 there. */
function weightVector(width: VectorWidth): string {
  if (width === 4) return "return weight[(params.weight_at + row * params.weight_stride) / 4u + index];";
  return /* wgsl */ `let at = params.weight_at + row * params.weight_stride;
  let last = params.dHidden - 1u;
  let k = 4u * index;
  return vec4f(weight[at + min(k, last)], weight[at + min(k + 1u, last)], weight[at + min(k + 2u, last)], weight[at + min(k + 3u, last)]);`;
}
