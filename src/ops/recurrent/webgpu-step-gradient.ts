// One step of a recurrence backwards, for all sequences: the product of the gates' gradients of the token behind with the
// weight, and the cells' gradients, in one dispatch.
import type { BufferUse, KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { vectorType, WORKGROUP } from "../webgpu-elements.ts";
import type { CellName } from "./cells.ts";
import { GATES } from "./cells.ts";
import { cellGradientOf } from "./webgpu-cells.ts";
import type { GradientSpec } from "./webgpu-gradient-cells.ts";
import { GRADIENT_PARAMS, gradientAccess, gradientBuffers, keepOf } from "./webgpu-gradient-cells.ts";
import type { StepTile } from "./webgpu-tiles.ts";
import { forRows, STEP_THREADS, STEP_TILE_SAMPLES, stagingOf, sumOverLanes } from "./webgpu-tiles.ts";

/** Units of a workgroup, from many to few; multiples of the four that a thread has. */
export const GRADIENT_UNITS = [32, 16, 8] as const;

export type LastSpec = GradientSpec & { readonly finalH: boolean };

/** The last token of all sequences, whose state gets the gradient of finalH. */
export const recurrentLastGradient: KernelFamily<LastSpec> = defineKernel<LastSpec>(
  "recurrentLastGradient",
  [
    { cell: "lstm", gradY: "f32", starts: true, gradGates: "add f32", finalH: true },
    { cell: "gru", gradY: undefined, starts: false, gradGates: undefined, finalH: false },
  ],
  ({ finalH, ...spec }) => ({
    buffers: { ...gradientBuffers(spec), ...(finalH && { finalH: "read f32" as const }) },
    params: GRADIENT_PARAMS,
    body: /* wgsl */ `${cellGradientOf(spec.cell)}${gradientAccess(spec)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.batch * params.dHidden) { return; }
  let sequence = i / params.dHidden;
  let unit = i % params.dHidden;
  let t = params.length - 1u;
  let token = token_of(sequence, t, unit);
  let grad_h = token.grad_y${finalH ? " + finalH[params.finalH_at + sequence * params.finalH_stride + unit]" : ""};
  let carry_at = params.carry_at + sequence * params.carry_stride + unit;
  let grad = cell_gradient(token.kept, token.h_before, token.c_before, grad_h, carry[carry_at]);
  store_gradient(sequence, t, unit, grad);
  carry[carry_at] = grad.carry * keep_of(sequence, t);
}`,
  }),
);

export type StepGradientSpec = GradientSpec & StepTile & { readonly width: VectorWidth };

/** Token `t` of all sequences, where there is one behind it. */
export const recurrentStepGradient: KernelFamily<StepGradientSpec> = defineKernel<StepGradientSpec>(
  "recurrentStepGradient",
  [
    { cell: "lstm", gradY: "f32", starts: true, gradGates: "add f32", ...STEP_TILE_SAMPLES[0], width: 4 },
    { cell: "gru", gradY: "f16", starts: false, gradGates: "write f16", ...STEP_TILE_SAMPLES[1], width: 1 },
  ],
  ({ width, units, rows, rowsAtOnce, ...spec }) => {
    const tile = { units, rows, rowsAtOnce };
    return {
      buffers: { weight: `read ${vectorType("f32", width)}`, ...gradientBuffers(spec) },
      params: ["t", "lanes", ...GRADIENT_PARAMS],
      body: /* wgsl */ `${cellGradientOf(spec.cell)}${gradientAccess(spec)}${productOf(spec.cell, tile, width)}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  ${PAIR}
  var token = Token(vec4f(), 0.0, 0.0, 0.0);
  if (is_pair) { token = token_of(sequence, params.t, pair_unit); }
  ${sumsOf(tile, "params.t + 1u")}
  if (is_pair) {
    let grad_h = through * keep_of(sequence, params.t + 1u) + token.grad_y;
    let carry_at = params.carry_at + sequence * params.carry_stride + pair_unit;
    let grad = cell_gradient(token.kept, token.h_before, token.c_before, grad_h, carry[carry_at]);
    store_gradient(sequence, params.t, pair_unit, grad);
    carry[carry_at] = grad.carry * keep_of(sequence, params.t);
  }
}`,
    };
  },
);

export type InitialGradientSpec = StepTile & {
  readonly cell: CellName;
  readonly starts: boolean;
  readonly gradH: BufferUse;
  readonly width: VectorWidth;
};

/** What the first tokens hand to initialH. */
export const recurrentInitialGradient: KernelFamily<InitialGradientSpec> = defineKernel<InitialGradientSpec>(
  "recurrentInitialGradient",
  [
    { cell: "lstm", starts: true, gradH: "add f32", ...STEP_TILE_SAMPLES[0], width: 4 },
    { cell: "gru", starts: false, gradH: "write f32", ...STEP_TILE_SAMPLES[1], width: 1 },
  ],
  ({ width, units, rows, rowsAtOnce, cell, starts, gradH }) => {
    const tile = { units, rows, rowsAtOnce };
    const place = "gradH[params.gradH_at + sequence * params.gradH_stride + pair_unit]";
    const carried = "carry[params.carry_at + sequence * params.carry_stride + pair_unit]";
    return {
      buffers: {
        weight: `read ${vectorType("f32", width)}`,
        ...(starts && { starts: "read i32" as const }),
        pulled: "read f32",
        ...(cell === "gru" && { carry: "read f32" as const }),
        gradH,
      },
      params: ["lanes", ...GRADIENT_PARAMS],
      body: /* wgsl */ `${keepOf(starts)}${productOf(cell, tile, width)}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  ${PAIR}
  ${sumsOf(tile, "0u")}
  if (is_pair) {
    let value = through * keep_of(sequence, 0u)${cell === "gru" ? ` + ${carried}` : ""};
    ${place} = ${gradH.startsWith("add") ? `${place} + ` : ""}value;
  }
}`,
    };
  },
);

/** WGSL: which sequence and unit a thread has at the end. */
const PAIR = /* wgsl */ `
  let first_row = group.y * ROWS;
  let pair_row = thread / UNITS;
  let pair_unit = group.x * UNITS + thread % UNITS;
  let sequence = first_row + pair_row;
  let is_pair = pair_row < ROWS && sequence < params.batch && pair_unit < params.dHidden;`;

/** WGSL: the product of gradients of the gates of a token with the weight. A thread has four units, and a lane of the gates. */
function productOf(cell: CellName, tile: StepTile, width: VectorWidth): string {
  return /* wgsl */ `
const UNITS = ${tile.units}u;
const LANES = ${gradientLanes(tile)}u;
const GATES = ${GATES[cell]}u;
var<private> staged_t: u32;
fn units_of(row: u32, unit: u32) -> vec4f {
  let at = params.weight_at + min(row, GATES * params.dHidden - 1u) * params.weight_stride;
  ${width === 4 ? "return weight[at / 4u + min(unit, params.dHidden - 4u) / 4u];" : UNITS_ONE_BY_ONE}
}
fn vector_of(sequence: u32, index: u32) -> vec4f {
  let at = params.pulled_at + (sequence * params.length + staged_t) * params.pulled_stride;
  let rows = GATES * params.dHidden;
  let row = 4u * index;
  var grads = vec4f();
  if (row < rows) { grads.x = pulled[at + row]; }
  if (row + 1u < rows) { grads.y = pulled[at + row + 1u]; }
  if (row + 2u < rows) { grads.z = pulled[at + row + 2u]; }
  if (row + 3u < rows) { grads.w = pulled[at + row + 3u]; }
  return grads;
}
${stagingOf(tile)}`;
}

const UNITS_ONE_BY_ONE = /* wgsl */ `let last = params.dHidden - 1u;
  return vec4f(weight[at + min(unit, last)], weight[at + min(unit + 1u, last)], weight[at + min(unit + 2u, last)], weight[at + min(unit + 3u, last)]);`;

/** Threads that share the sums of four units. */
export function gradientLanes({ units }: { units: number }): number {
  return STEP_THREADS / (units / 4);
}

/** WGSL: `through`, a pair's sum over the gates of the token `t`. */
function sumsOf(tile: StepTile, t: string): string {
  const vectors = tile.units / 4;
  const take = `through = parts[from_row + (thread % UNITS) / 4u][thread % 4u];`;
  return /* wgsl */ `
  staged_t = ${t};
  let lane = thread / ${vectors}u;
  let unit = group.x * UNITS + 4u * (thread % ${vectors}u);
  ${forRows(tile, (row) => `var sum${row} = vec4f();`)}
  let all = (GATES * params.dHidden + 3u) / 4u;
  for (var first = 0u; first < all; first += CHUNK) {
    stage(first, first_row, thread);
    workgroupBarrier();
    let end = min(CHUNK, all - first);
    for (var i = lane; i < end; i += LANES) {
      let row = 4u * (first + i);
      let w0 = units_of(row, unit);
      let w1 = units_of(row + 1u, unit);
      let w2 = units_of(row + 2u, unit);
      let w3 = units_of(row + 3u, unit);
      var g: vec4f;
      ${forRows(
        tile,
        (row) => `g = staged[${row}u * CHUNK + i];
      sum${row} += g.x * w0 + g.y * w1 + g.z * w2 + g.w * w3;`,
      )}
    }
    workgroupBarrier();
  }
  var through = 0.0;
  ${sumOverLanes(tile, { step: vectors, take })}`;
}
