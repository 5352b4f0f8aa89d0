// What the kernels of the backward scan share: their workgroup memory, each thread's place, how a tile gets into memory.
import type { BackwardSpec } from "./webgpu-backward.ts";
import { stateThreads } from "./webgpu-layout.ts";
import { repeat } from "./webgpu-wgsl.ts";

/** Constants and workgroup memory. */
export function constants(spec: BackwardSpec): string {
  const { channels, steps, vectors, dState, pass, hasStarts, round, saveEvery } = spec;
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
  return /* wgsl */ `
  let B_group = group.x / params.group_blocks;
  let first_channel = B_group * params.group_channels + (group.x % params.group_blocks) * CHANNELS;
  let end_channel = (B_group + 1u) * params.group_channels;
  let sequence = group.z;
  let chunk = group.y;
  let first_step = chunk * params.chunk_steps;
  let end_step = min(first_step + params.chunk_steps, params.length);
  let first_row = sequence * params.length;
  let c = thread % CHANNELS;
  let state_thread = thread / CHANNELS;
  let channel = first_channel + c;
  let is_channel = channel < end_channel;
  let quad_column = (thread % (CHANNELS / 4u)) * 4u;
  let quad_step = thread / (CHANNELS / 4u);
  let quad_channel = first_channel + quad_column;
  let quad_count = select(0u, end_channel - quad_channel, quad_channel < end_channel);
  let state_at = 4u * (((sequence * params.chunks + chunk) * params.d_inner + channel) * STEP_VECTORS + state_thread * VECTORS);
  let bias = load_dt_bias(quad_channel, quad_count);
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

/** The entry point; with `lane` where a subgroup sums. */
export function entry({ lanes, pass }: BackwardSpec): string {
  const lane = lanes > 0 && pass === "all" ? ", @builtin(subgroup_invocation_id) lane: u32" : "";
  return /* wgsl */ `
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32${lane}) {`;
}
