// What the kernels of the backward scan share: their workgroup memory, each thread's place, how a tile gets into memory.
import type { BackwardSpec } from "./webgpu-backward.ts";
import { stateThreads } from "./webgpu-layout.ts";
import { PLACES, repeat } from "./webgpu-wgsl.ts";

/** Constants and workgroup memory. */
export function constants(spec: BackwardSpec): string {
  const { channels, steps, vectors, dState, pass, hasStarts, round, saveEvery, sub } = spec;
  return /* wgsl */ `
const D_STATE = ${dState}u;
const CHANNELS = ${channels}u;
const STEPS = ${steps}u;
const STATE_THREADS = ${stateThreads(spec)}u;
const VECTORS = ${vectors}u;
const STEP_VECTORS = STATE_THREADS * VECTORS;
const THREADS = CHANNELS * STATE_THREADS;
const ROW = CHANNELS + 1u;
const SAVE_EVERY = ${saveEvery}u;
const ROUND = ${round}u;
const SUB = ${sub}u;
const LN_2 = 0.6931471805599453;
// dt and dt x of a tile, and o = grad p.
var<workgroup> tile_dt: array<vec2f, STEPS * ROW>;
var<workgroup> tile_o: array<f32, STEPS * ROW>;
var<workgroup> tile_C: array<vec4f, STEPS * STEP_VECTORS>;
${hasStarts ? "var<workgroup> tile_kept: array<f32, STEPS>;" : ""}
${pass === "ends" ? "" : ALL_MEMORY + (spec.lanes > 0 ? LANE_SUMS : PRODUCTS)}`;
}

const ALL_MEMORY = /* wgsl */ `
var<workgroup> tile_B: array<vec4f, STEPS * STEP_VECTORS>;
// Over the states of one thread: g B, A q h (in powers of 2), C h.
const PARTS = STATE_THREADS * STEPS * ROW;
var<workgroup> tile_gB: array<f32, PARTS>;
var<workgroup> tile_Aqh: array<f32, PARTS>;
var<workgroup> tile_Ch: array<f32, PARTS>;`;

const PRODUCTS = /* wgsl */ `
// g dt x and o h, of a round's steps, to be summed over channels.
var<workgroup> products: array<vec4f, ROUND * 2u * STEP_VECTORS * ROW>;`;

const LANE_SUMS = /* wgsl */ `
// Those products summed over channels, as they lie in memory.
var<workgroup> tile_sums: array<f32, STEPS * 8u * STEP_VECTORS>;`;

/** What both kernels begin with: which channels, states and quads a thread has. */
export function places(spec: BackwardSpec): string {
  return /* wgsl */ `${PLACES}
  let state_at = 4u * chunk_at;
${repeat(spec.vectors, (v) => beginVector(v))}`;
}

/** A; zeros for states beyond dState. */
function beginVector(v: number): string {
  return /* wgsl */ `
  let n${v} = (state_thread * VECTORS + ${v}u) * 4u;
  var a${v} = vec4f();
  if (is_channel && n${v} < D_STATE) { a${v} = load_A(channel, n${v}); }`;
}

/** Rows of quads that the threads cover at once, and how often they must. */
export function quadsOf(spec: BackwardSpec): { rows: number; times: number; matrices: number } {
  const threads = spec.channels * stateThreads(spec);
  const rows = threads / (spec.channels / 4);
  const matrices = Math.ceil((spec.steps * stateThreads(spec) * spec.vectors) / threads);
  return { rows, times: Math.ceil(spec.steps / rows), matrices };
}

/** Into workgroup memory: dt and dt x (for "ends" dt alone), o, B, C of the tile at `tile`. Beyond `end` all is zero. */
export function stageTile(spec: BackwardSpec, { withB, withO }: { withB: boolean; withO: boolean }): string {
  const { rows, times, matrices } = quadsOf(spec);
  const token = (q: number): string => /* wgsl */ `
      if (quad_step + ${q * rows}u < STEPS) {
        let step = quad_step + ${q * rows}u;
        var dt = vec4f();
        var dt_x = vec4f();
        ${withO ? "var o = vec4f();" : ""}
        if (tile + step < end_step && quad_count > 0u) {
          let row = first_row + tile + step;
          let raw = load_dt_raw(row, quad_channel, quad_count) + bias;
          dt = ${spec.softplus ? "softplus(raw)" : "raw"};
          ${withB ? "dt_x = dt * load_x(row, quad_channel, quad_count);" : ""}
          ${withO && spec.hasGradY ? "o = load_grad_y(row, quad_channel, quad_count);" : ""}
          ${withO && spec.hasGradY && spec.hasZ ? "let z = load_z(row, quad_channel, quad_count);\n          o *= z * sigmoid(z);" : ""}
        }
${repeat(4, (i) => `        tile_dt[step * ROW + quad_column + ${i}u] = vec2f(dt[${i}], dt_x[${i}]);\n`)}
${withO ? repeat(4, (i) => `        tile_o[step * ROW + quad_column + ${i}u] = o[${i}];\n`) : ""}
      }`;
  const load = (name: string): string => `tile_${name}[i] = load_${name}(first_row + row, B_group, n);`;
  const matrix = (q: number): string => /* wgsl */ `
      {
        let i = thread + ${q}u * THREADS;
        let row = tile + i / STEP_VECTORS;
        let n = (i % STEP_VECTORS) * 4u;
        if (i < STEPS * STEP_VECTORS) {
          if (row < end_step && n < D_STATE) {
            ${withB ? load("B") : ""}
            ${withO ? load("C") : ""}
          } else {
            ${withB ? "tile_B[i] = vec4f();" : ""}
            ${withO ? "tile_C[i] = vec4f();" : ""}
          }
        }
      }`;
  const kept = /* wgsl */ `
      if (thread < STEPS) {
        tile_kept[thread] = 1.0;
        if (tile + thread < end_step) {
          tile_kept[thread] = load_kept(first_row + tile + thread);
        }
      }`;
  return repeat(times, token) + repeat(matrices, matrix) + (spec.hasStarts ? kept : "");
}

/** Registers of what is loaded ahead, and of what a thread keeps of its own quads until the end of a tile. */
export function aheadRegisters(spec: BackwardSpec): string {
  const { times, matrices } = quadsOf(spec);
  const token = (q: number): string => /* wgsl */ `
  var next_x${q} = vec4f(); var next_raw${q} = vec4f(); var next_grad${q} = vec4f(); var next_z${q} = vec4f();
  var x${q} = vec4f(); var dt${q} = vec4f(); var slope${q} = vec4f(1.0); var o${q} = vec4f(); var z_part${q} = vec4f();`;
  return (
    repeat(times, token) +
    repeat(matrices, (q) => `\n  var next_B${q} = vec4f(); var next_C${q} = vec4f();`) +
    (spec.hasStarts ? "\n  var next_kept = 1.0;" : "")
  );
}

/** From memory into registers, a tile ahead of its use: the one at `ahead`. */
export function loadAhead(spec: BackwardSpec): string {
  const { rows, times, matrices } = quadsOf(spec);
  const token = (q: number): string => /* wgsl */ `
        if (quad_step + ${q * rows}u < STEPS && ahead + quad_step + ${q * rows}u < end_step && quad_count > 0u) {
          let row = first_row + ahead + quad_step + ${q * rows}u;
          next_x${q} = load_x(row, quad_channel, quad_count);
          next_raw${q} = load_dt_raw(row, quad_channel, quad_count);
          ${spec.hasGradY ? `next_grad${q} = load_grad_y(row, quad_channel, quad_count);` : ""}
          ${spec.hasGradY && spec.hasZ ? `next_z${q} = load_z(row, quad_channel, quad_count);` : ""}
        }`;
  const matrix = (q: number): string => /* wgsl */ `
        {
          let i = thread + ${q}u * THREADS;
          let row = ahead + i / STEP_VECTORS;
          let n = (i % STEP_VECTORS) * 4u;
          next_B${q} = vec4f();
          next_C${q} = vec4f();
          if (i < STEPS * STEP_VECTORS && row < end_step && n < D_STATE) {
            next_B${q} = load_B(first_row + row, B_group, n);
            next_C${q} = load_C(first_row + row, B_group, n);
          }
        }`;
  const kept = /* wgsl */ `
        next_kept = 1.0;
        if (thread < STEPS && ahead + thread < end_step) {
          next_kept = load_kept(first_row + ahead + thread);
        }`;
  return repeat(times, token) + repeat(matrices, matrix) + (spec.hasStarts ? kept : "");
}

/** What was loaded ahead into workgroup memory; steps beyond the end have dt = 0 and o = 0. */
export function stageAhead(spec: BackwardSpec): string {
  const { rows, times, matrices } = quadsOf(spec);
  const gate = (q: number): string => /* wgsl */ `
        let s = sigmoid(next_z${q});
        z_part${q} = o${q} * s * (1.0 + next_z${q} * (1.0 - s));
        o${q} *= next_z${q} * s;`;
  const token = (q: number): string => /* wgsl */ `
      if (quad_step + ${q * rows}u < STEPS) {
        let step = quad_step + ${q * rows}u;
        let is_inside = tile + step < end_step && quad_count > 0u;
        let raw = next_raw${q} + bias;
        x${q} = next_x${q};
        dt${q} = select(vec4f(), ${spec.softplus ? "softplus(raw)" : "raw"}, is_inside);
        ${spec.softplus ? `slope${q} = sigmoid(raw);` : ""}
        o${q} = select(vec4f(), next_grad${q}, is_inside);
        ${spec.hasGradY && spec.hasZ ? gate(q) : ""}
        let dt_x = dt${q} * x${q};
${repeat(4, (i) => `        tile_dt[step * ROW + quad_column + ${i}u] = vec2f(dt${q}[${i}], dt_x[${i}]);\n        tile_o[step * ROW + quad_column + ${i}u] = o${q}[${i}];\n`)}
      }`;
  const matrix = (q: number): string => /* wgsl */ `
      if (thread + ${q}u * THREADS < STEPS * STEP_VECTORS) {
        tile_B[thread + ${q}u * THREADS] = next_B${q};
        tile_C[thread + ${q}u * THREADS] = next_C${q};
      }`;
  const kept = "      if (thread < STEPS) { tile_kept[thread] = next_kept; }";
  return repeat(times, token) + repeat(matrices, matrix) + (spec.hasStarts ? kept : "");
}

/** The entry point; with `lane` where a subgroup sums. */
export function entry({ lanes, pass }: BackwardSpec): string {
  const lane = lanes > 0 && pass === "all" ? ", @builtin(subgroup_invocation_id) lane: u32" : "";
  return /* wgsl */ `
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32${lane}) {`;
}
