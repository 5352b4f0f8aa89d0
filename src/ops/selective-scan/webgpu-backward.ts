// The backward kernel of the selective scan on WebGPU: walks from the end of the sequence, a tile of steps after the other,
// computes the states of a tile again, and carries q, the gradient of the state. Formulas and layout: README.md.
// Source: Gu & Dao 2023, Alg. 2.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { ScanKind, ScanLayout } from "./webgpu-layout.ts";
import { BARE_KIND, SAMPLE_KIND, SAMPLE_LAYOUT, stateThreads } from "./webgpu-layout.ts";
import { ACTIVATIONS, decayFunction, loadQuad, quadType, repeat, storeQuad } from "./webgpu-wgsl.ts";

export type BackwardSpec = ScanLayout &
  ScanKind & {
    /** all: every gradient. ends: only what a chunk hands to the one before it, from zero. */
    readonly pass: "all" | "ends";
    /** Steps between saved states; a multiple of the steps of a tile. */
    readonly saveEvery: number;
    /** Steps whose products for grad.B and grad.C are summed over channels at once. */
    readonly round: number;
    readonly hasGradY: boolean;
    /** How gradients are written; none: nobody asked. */
    readonly gradX: Target;
    readonly gradDt: Target;
    readonly gradZ: Target;
  };
export type Target = "none" | "write" | "add";

/** Bytes of workgroup memory of a backward kernel. */
export function backwardBytes(layout: ScanLayout & { readonly dState: number; readonly round: number }): number {
  const { vectors, channels, steps, round } = layout;
  const threads = stateThreads(layout);
  const row = channels + 1;
  return 4 * steps * (3 * row + 3 * threads * row + 8 * threads * vectors + 1) + 32 * round * threads * vectors * row;
}

const SAMPLE = { ...SAMPLE_LAYOUT, steps: 8, round: 2, saveEvery: 64 } as const;

export const scanBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "scanBackward",
  [
    { ...SAMPLE, ...SAMPLE_KIND, pass: "all", hasGradY: true, gradX: "write", gradDt: "add", gradZ: "write" },
    { ...SAMPLE, ...SAMPLE_KIND, pass: "ends", hasGradY: true, gradX: "none", gradDt: "none", gradZ: "none" },
    { ...SAMPLE, ...BARE_KIND, pass: "all", vectors: 2, hasGradY: true, gradX: "add", gradDt: "write", gradZ: "none" },
    { ...SAMPLE, ...BARE_KIND, pass: "all", hasGradY: false, gradX: "none", gradDt: "write", gradZ: "none" },
    { ...SAMPLE, ...BARE_KIND, pass: "ends", hasGradY: true, gradX: "none", gradDt: "none", gradZ: "none" },
  ],
  (spec) => ({ buffers: backwardBuffers(spec), params: BACKWARD_PARAMS, body: backwardBody(spec) }),
);

const BACKWARD_PARAMS = [
  "batch",
  "length",
  "d_inner",
  "group_channels",
  "group_blocks",
  "chunk_steps",
  "chunks",
  "chunk_starts",
  "A_sums_at",
  "channel_sums_at",
];

type BufferUses = Record<string, `${"read" | "write" | "add"} ${string}`>;

function backwardBuffers(spec: BackwardSpec): BufferUses {
  const { type, wide, wideBC, wideState } = spec;
  const quad = quadType(type, wide);
  const buffers: BufferUses = { dt_raw: `read ${quad}`, A: "read f32", C: `read ${quadType(spec.typeC, wideBC)}` };
  if (spec.hasBias) buffers.dt_bias = "read f32";
  if (spec.hasStarts) buffers.document_starts = "read i32";
  if (spec.hasZ) buffers.z = `read ${quad}`;
  if (spec.hasGradY) buffers.grad_y = `read ${quad}`;
  buffers.carried = "add vec4<f32>";
  if (spec.pass === "ends") return { ...buffers, sums: "add f32" };
  buffers.x = `read ${quad}`;
  buffers.B = `read ${quadType(spec.typeB, wideBC)}`;
  if (spec.hasD) buffers.D = "read f32";
  buffers.saved_states = `read ${quadType("f32", wideState)}`;
  buffers.partials = "add f32";
  if (spec.gradX !== "none") buffers.grad_x = `${spec.gradX} ${quad}`;
  if (spec.gradDt !== "none") buffers.grad_dt_raw = `${spec.gradDt} ${quad}`;
  if (spec.gradZ !== "none") buffers.grad_z = `${spec.gradZ} ${quad}`;
  return buffers;
}

function backwardBody(spec: BackwardSpec): string {
  const { type, wide, wideBC, pass } = spec;
  const isAll = pass === "all";
  const target = (name: string, kind: Target): string =>
    isAll && kind !== "none" ? storeQuad(name, type, wide, kind === "add") : "";
  return [
    constants(spec),
    ACTIVATIONS,
    decayFunction(spec.polynomial),
    loadQuad("dt_raw", wide),
    loadQuad("C", wideBC),
    spec.hasZ ? loadQuad("z", wide) : "",
    spec.hasGradY ? loadQuad("grad_y", wide) : "",
    isAll ? loadQuad("x", wide) + loadQuad("B", wideBC) + loadQuad("saved_states", spec.wideState) : "",
    target("grad_x", spec.gradX),
    target("grad_dt_raw", spec.gradDt),
    target("grad_z", spec.gradZ),
    isAll ? mainFunction(spec) : endsFunction(spec),
  ].join("\n");
}

function constants(spec: BackwardSpec): string {
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
const LOG2_E = 1.4426950408889634;
const LN_2 = 0.6931471805599453;
// dt and dt x of a tile, and o = grad p.
var<workgroup> tile_dt: array<vec2f, STEPS * ROW>;
var<workgroup> tile_o: array<f32, STEPS * ROW>;
var<workgroup> tile_C: array<vec4f, STEPS * STEP_VECTORS>;
${hasStarts ? "var<workgroup> tile_kept: array<f32, STEPS>;" : ""}
${pass === "ends" ? "" : ALL_MEMORY}`;
}

const ALL_MEMORY = /* wgsl */ `
var<workgroup> tile_B: array<vec4f, STEPS * STEP_VECTORS>;
// Over the states of one thread: g B, A q h (in powers of 2), C h.
const PARTS = STATE_THREADS * STEPS * ROW;
var<workgroup> tile_gB: array<f32, PARTS>;
var<workgroup> tile_Aqh: array<f32, PARTS>;
var<workgroup> tile_Ch: array<f32, PARTS>;
// g dt x and o h, of a round's steps, to be summed over channels.
var<workgroup> products: array<vec4f, ROUND * 2u * STEP_VECTORS * ROW>;`;

/** What both kernels begin with: which channels, states and quads a thread has. */
function places(spec: BackwardSpec): string {
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
  let carried_at = ((sequence * params.chunks + chunk) * params.d_inner + channel) * STEP_VECTORS + state_thread * VECTORS;
  var bias = vec4f();
${spec.hasBias ? repeat(4, (i) => `  if (quad_count > ${i}u) { bias[${i}] = dt_bias[params.dt_bias_at + quad_channel + ${i}u]; }\n`) : ""}
${repeat(spec.vectors, (v) => beginVector(v))}`;
}

function beginVector(v: number): string {
  const at = `params.A_at + channel * params.A_stride + n${v}`;
  return /* wgsl */ `
  let n${v} = (state_thread * VECTORS + ${v}u) * 4u;
  var a${v} = vec4f();
  if (is_channel) {
${repeat(4, (i) => `    if (n${v} + ${i}u < D_STATE) { a${v}[${i}] = LOG2_E * A[${at} + ${i}u]; }\n`)}
  }`;
}

/** Rows of quads that the threads cover at once, and how often they must. */
function quadsOf(spec: BackwardSpec): { rows: number; times: number; matrices: number } {
  const threads = spec.channels * stateThreads(spec);
  const rows = threads / (spec.channels / 4);
  const matrices = Math.ceil((spec.steps * stateThreads(spec) * spec.vectors) / threads);
  return { rows, times: Math.ceil(spec.steps / rows), matrices };
}

/** Into workgroup memory: dt and dt x (for "ends" dt alone), o, B, C of the tile at `tile`. Beyond `end` all is zero. */
function stageTile(spec: BackwardSpec, { withB, withO }: { withB: boolean; withO: boolean }): string {
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
  const load = (name: string): string =>
    `tile_${name}[i] = load_${name}(first_row + row, B_group * D_STATE + n, D_STATE - n);`;
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
          tile_kept[thread] = select(1.0, 0.0, document_starts[params.document_starts_at + sequence * params.document_starts_stride + tile + thread] != 0);
        }
      }`;
  return repeat(times, token) + repeat(matrices, matrix) + (spec.hasStarts ? kept : "");
}

const ENTRY = /* wgsl */ `
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {`;

/** What a chunk hands on to its left when nothing comes from its right: q at its first step; and its sum of dt. */
function endsFunction(spec: BackwardSpec): string {
  const { vectors, hasStarts } = spec;
  const kept = hasStarts ? "tile_kept[step] * " : "";
  return /* wgsl */ `${ENTRY}
${places(spec)}
${repeat(vectors, (v) => `  var q${v} = vec4f();\n`)}
  var dt_sum = 0.0;
  ${hasStarts ? "var all_kept = 1.0;" : ""}
  let tiles = (end_step - first_step + STEPS - 1u) / STEPS;
  for (var j = 0u; j < tiles; j++) {
    let tile = first_step + (tiles - 1u - j) * STEPS;
${stageTile(spec, { withB: false, withO: true })}
    workgroupBarrier();
    for (var i = 0u; i < STEPS; i++) {
      let step = STEPS - 1u - i;
      let dt = tile_dt[step * ROW + c].x;
      let o = tile_o[step * ROW + c];
      dt_sum += dt;
      ${hasStarts ? "all_kept *= tile_kept[step];" : ""}
${repeat(vectors, (v) => `      q${v} = ${kept}decay(dt * a${v}) * (q${v} + o * tile_C[step * STEP_VECTORS + state_thread * VECTORS + ${v}u]);\n`)}
    }
    workgroupBarrier();
  }
  if (is_channel) {
${repeat(vectors, (v) => `    carried[carried_at + ${v}u] = q${v};\n`)}
    if (state_thread == 0u) { sums[(sequence * params.chunks + chunk) * params.d_inner + channel] = dt_sum; }
  }
  ${hasStarts ? "if (group.x == 0u && thread == 0u) { sums[params.chunks * params.d_inner * params.batch + sequence * params.chunks + chunk] = all_kept; }" : ""}
}`;
}

function mainFunction(spec: BackwardSpec): string {
  const { vectors, steps, round } = spec;
  return /* wgsl */ `${ENTRY}
${places(spec)}
  var skip_factor = vec4f();
${spec.hasD ? repeat(4, (i) => `  if (quad_count > ${i}u) { skip_factor[${i}] = D[params.D_at + quad_channel + ${i}u]; }\n`) : ""}
  var D_sum = vec4f();
  var bias_sum = vec4f();
${repeat(vectors, (v) => `  var A_sum${v} = vec4f();\n  var q${v} = vec4f();\n  if (is_channel) { q${v} = carried[carried_at + ${v}u]; }\n`)}
  // The states before the tiles of a piece between two saved states.
  var tile_states: array<vec4f, (SAVE_EVERY / STEPS) * VECTORS>;
  let pieces = (end_step - first_step + SAVE_EVERY - 1u) / SAVE_EVERY;
  for (var p = 0u; p < pieces; p++) {
    let piece = first_step + (pieces - 1u - p) * SAVE_EVERY;
    let tiles = (min(SAVE_EVERY, end_step - piece) + STEPS - 1u) / STEPS;
    let saved = (sequence * params.chunk_starts + piece / SAVE_EVERY) * params.d_inner + channel;
${repeat(
  vectors,
  (v) => /* wgsl */ `
    var h${v} = vec4f();
    if (is_channel && n${v} < D_STATE) { h${v} = load_saved_states(saved, n${v}, D_STATE - n${v}); }
    tile_states[${v}] = h${v};`,
)}
    for (var j = 1u; j < tiles; j++) {
      let tile = piece + (j - 1u) * STEPS;
${stageTile(spec, { withB: true, withO: false })}
      workgroupBarrier();
      for (var step = 0u; step < STEPS; step++) {
        let dt = tile_dt[step * ROW + c];
${repeat(vectors, (v) => `        h${v} = ${keptAt(spec, "step")}decay(dt.x * a${v}) * h${v} + dt.y * tile_B[step * STEP_VECTORS + state_thread * VECTORS + ${v}u];\n`)}
      }
${repeat(vectors, (v) => `      tile_states[j * VECTORS + ${v}u] = h${v};\n`)}
      workgroupBarrier();
    }
    for (var j = 0u; j < tiles; j++) {
      let tile = piece + (tiles - 1u - j) * STEPS;
${stageTile(spec, { withB: true, withO: true })}
      workgroupBarrier();
${repeat(vectors, (v) => `      let h${v}_0 = tile_states[(tiles - 1u - j) * VECTORS + ${v}u];\n`)}
${repeat(steps, (i) => stepAgain(spec, i))}
${repeat(steps / round, (r) => oneRound(spec, steps / round - 1 - r))}
${finishTile(spec)}
    }
  }
${endSums(spec)}
}`;
}

function keptAt({ hasStarts }: BackwardSpec, step: string): string {
  return hasStarts ? `tile_kept[${step}] * ` : "";
}

/** The state behind step i again; the decays stay in registers for the way back. */
function stepAgain(spec: BackwardSpec, i: number): string {
  const { vectors, gradZ } = spec;
  const at = `${i}u * STEP_VECTORS + state_thread * VECTORS`;
  const Ch = repeat(vectors, (v) => `${v > 0 ? " + " : ""}dot(h${v}_${i + 1}, tile_C[${at} + ${v}u])`);
  return /* wgsl */ `
      let dt_${i} = tile_dt[${i}u * ROW + c];
${repeat(
  vectors,
  (v) => /* wgsl */ `
      let decay${v}_${i} = ${keptAt(spec, `${i}u`)}decay(dt_${i}.x * a${v});
      let h${v}_${i + 1} = decay${v}_${i} * h${v}_${i} + dt_${i}.y * tile_B[${at} + ${v}u];`,
)}
      ${gradZ === "none" ? "" : `tile_Ch[(state_thread * STEPS + ${i}u) * ROW + c] = ${Ch};`}`;
}

/** Back through the steps of a round, then the sums of its products over channels. */
function oneRound(spec: BackwardSpec, r: number): string {
  const { round } = spec;
  return /* wgsl */ `
${repeat(round, (i) => stepBack(spec, r * round + round - 1 - i, round - 1 - i))}
      workgroupBarrier();
      for (var i = thread; i < ROUND * 8u * STEP_VECTORS; i += THREADS) {
        // Step of the round, B or C, state: as they lie in memory.
        let at = (i / 4u) * ROW;
        let part = i % 4u;
        var sum = 0.0;
        for (var k = 0u; k < CHANNELS; k++) { sum += products[at + k][part]; }
        let row = tile + ${r}u * ROUND + i / (8u * STEP_VECTORS);
        if (row < end_step) {
          partials[(group.x * params.batch * params.length + first_row + row) * 8u * STEP_VECTORS + i % (8u * STEP_VECTORS)] = sum;
        }
      }
      workgroupBarrier();`;
}

function stepBack(spec: BackwardSpec, i: number, inRound: number): string {
  const { vectors } = spec;
  const at = `${i}u * STEP_VECTORS + state_thread * VECTORS`;
  const sum = (what: (v: number) => string): string => repeat(vectors, (v) => `${v > 0 ? " + " : ""}${what(v)}`);
  const vector = (v: number): string => /* wgsl */ `
        let g${v} = q${v} + o * tile_C[${at} + ${v}u];
        products[(${inRound * 2}u * STEP_VECTORS + state_thread * VECTORS + ${v}u) * ROW + c] = dt_${i}.y * g${v};
        products[(${inRound * 2 + 1}u * STEP_VECTORS + state_thread * VECTORS + ${v}u) * ROW + c] = o * h${v}_${i + 1};
        q${v} = decay${v}_${i} * g${v};
        let qh${v} = q${v} * h${v}_${i};
        A_sum${v} += dt_${i}.x * qh${v};`;
  return /* wgsl */ `
      {
        let o = tile_o[${i}u * ROW + c];
${repeat(vectors, vector)}
        let part = (state_thread * STEPS + ${i}u) * ROW + c;
        tile_gB[part] = ${sum((v) => `dot(g${v}, tile_B[${at} + ${v}u])`)};
        tile_Aqh[part] = ${sum((v) => `dot(qh${v}, a${v})`)};
      }`;
}

/** Sums over the states of four channels and one step: the gradients of x, dtRaw and z. */
function finishTile(spec: BackwardSpec): string {
  const { rows, times } = quadsOf(spec);
  const parts = (name: string): string =>
    `vec4f(tile_${name}[part], tile_${name}[part + 1u], tile_${name}[part + 2u], tile_${name}[part + 3u])`;
  const hasZ = spec.hasGradY && spec.hasZ;
  const finish = (q: number): string => /* wgsl */ `
      if (quad_step + ${q * rows}u < STEPS && tile + quad_step + ${q * rows}u < end_step && quad_count > 0u) {
        let step = quad_step + ${q * rows}u;
        let row = first_row + tile + step;
        var gB = vec4f();
        var Aqh = vec4f();
        var Ch = vec4f();
        for (var s = 0u; s < STATE_THREADS; s++) {
          let part = (s * STEPS + step) * ROW + quad_column;
          gB += ${parts("gB")};
          Aqh += ${parts("Aqh")};
          ${spec.gradZ === "none" ? "" : `Ch += ${parts("Ch")};`}
        }
        let x = load_x(row, quad_channel, quad_count);
        let raw = load_dt_raw(row, quad_channel, quad_count) + bias;
        let dt = ${spec.softplus ? "softplus(raw)" : "raw"};
        var o = ${spec.hasGradY ? "load_grad_y(row, quad_channel, quad_count)" : "vec4f()"};
        ${hasZ ? zGradient(spec) : ""}
        let gradient_dt = (x * gB + LN_2 * Aqh)${spec.softplus ? " * sigmoid(raw)" : ""};
        D_sum += o * x;
        bias_sum += gradient_dt;
        ${spec.gradX === "none" ? "" : "store_grad_x(row, quad_channel, quad_count, dt * gB + skip_factor * o);"}
        ${spec.gradDt === "none" ? "" : "store_grad_dt_raw(row, quad_channel, quad_count, gradient_dt);"}
      }`;
  return repeat(times, finish);
}

function zGradient({ gradZ }: BackwardSpec): string {
  const store = /* wgsl */ `store_grad_z(row, quad_channel, quad_count, o * (Ch + skip_factor * x) * s * (1.0 + z * (1.0 - s)));`;
  return /* wgsl */ `let z = load_z(row, quad_channel, quad_count);
        let s = sigmoid(z);
        ${gradZ === "none" ? "" : store}
        o *= z * s;`;
}

/** What was summed along time: for A by state, for D and dtBias by channel; and q, for what lies to the left. */
function endSums({ vectors }: BackwardSpec): string {
  return /* wgsl */ `
  if (is_channel) {
    let at = params.A_sums_at + 4u * carried_at;
${repeat(
  vectors,
  (v) => /* wgsl */ `
    carried[carried_at + ${v}u] = q${v};
${repeat(4, (i) => `    partials[at + ${4 * v + i}u] = A_sum${v}[${i}];\n`)}`,
)}
  }
  // Threads with the same four channels: their sums, one below the other.
  workgroupBarrier();
  for (var i = 0u; i < 4u; i++) {
    tile_gB[quad_step * CHANNELS + quad_column + i] = D_sum[i];
    tile_Aqh[quad_step * CHANNELS + quad_column + i] = bias_sum[i];
  }
  workgroupBarrier();
  if (state_thread == 0u && is_channel) {
    var D_all = 0.0;
    var bias_all = 0.0;
    for (var i = 0u; i < 4u * STATE_THREADS; i++) {
      D_all += tile_gB[i * CHANNELS + c];
      bias_all += tile_Aqh[i * CHANNELS + c];
    }
    let at = params.channel_sums_at + (sequence * params.chunks + chunk) * 2u * params.d_inner + channel;
    partials[at] = D_all;
    partials[at + params.d_inner] = bias_all;
  }`;
}
