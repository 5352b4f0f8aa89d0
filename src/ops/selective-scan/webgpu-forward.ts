// The forward kernels of the selective scan on WebGPU. A workgroup walks along time with a block of channels, a tile of
// steps after the other; the states of a channel are shared out among threads, four or more to each. See README.md.
// Source: Gu & Dao 2023, Alg. 2.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { ScanKind, ScanLayout } from "./webgpu-layout.ts";
import { BARE_KIND, SAMPLE_KIND, SAMPLE_LAYOUT, stateThreads } from "./webgpu-layout.ts";
import { LOAD_PACKED, PACKED_PARAMS } from "./webgpu-pack.ts";
import { ACTIVATIONS, loadQuad, loopEnd, PLACES, quadType, repeat, storeQuad } from "./webgpu-wgsl.ts";

export type ForwardSpec = ScanLayout &
  ScanKind & {
    /** whole: a sequence at once. ends: the state that a chunk leaves behind, from zero. chunks: every chunk from its true start. */
    readonly pass: "whole" | "ends" | "chunks";
    /** The state before the first step: zeros, a tensor, or the final state's own memory. */
    readonly initial: "zero" | "read" | "inPlace";
    /** Steps between the states that are saved for the backward pass; 0 to save none. */
    readonly saveEvery: number;
  };

export const scanForward: KernelFamily<ForwardSpec> = defineKernel<ForwardSpec>(
  "scan",
  [
    { ...SAMPLE_LAYOUT, ...SAMPLE_KIND, pass: "whole", initial: "zero", saveEvery: 64 },
    { ...SAMPLE_LAYOUT, ...SAMPLE_KIND, pass: "ends", initial: "zero", saveEvery: 0 },
    { ...SAMPLE_LAYOUT, ...SAMPLE_KIND, pass: "chunks", initial: "zero", saveEvery: 0 },
    {
      ...SAMPLE_LAYOUT,
      ...BARE_KIND,
      pass: "whole",
      initial: "read",
      saveEvery: 64,
      vectors: 2,
      channels: 8,
      steps: 4,
    },
    { ...SAMPLE_LAYOUT, ...BARE_KIND, pass: "whole", initial: "inPlace", saveEvery: 0 },
    { ...SAMPLE_LAYOUT, ...BARE_KIND, pass: "ends", initial: "zero", saveEvery: 0 },
  ],
  (spec) => ({ buffers: forwardBuffers(spec), params: FORWARD_PARAMS, body: forwardBody(spec) }),
);

const FORWARD_PARAMS = [
  "batch",
  "length",
  "d_inner",
  "d_state",
  "group_channels",
  "group_blocks",
  "chunk_steps",
  "chunks",
  "chunk_starts",
  "once",
  ...PACKED_PARAMS,
];

function forwardBuffers(spec: ForwardSpec): Record<string, `${"read" | "write" | "add"} ${string}`> {
  const { type, wide, wideState } = spec;
  const buffers: Record<string, `${"read" | "write" | "add"} ${string}`> = {
    x: `read ${quadType(type, wide)}`,
    dt_raw: `read ${quadType(type, wide)}`,
    packed: "read vec4<f32>",
  };
  if (spec.pass === "ends") return { ...buffers, chunk_states: "add vec4<f32>", sums: "add f32" };
  if (spec.hasZ) buffers.z = `read ${quadType(type, wide)}`;
  if (spec.pass === "chunks") buffers.chunk_states = "read vec4<f32>";
  else if (spec.initial === "read") buffers.initial_state = `read ${quadType("f32", wideState)}`;
  if (spec.saveEvery > 0) buffers.saved_states = `write ${quadType("f32", wideState)}`;
  const isInPlace = spec.pass === "whole" && spec.initial === "inPlace";
  buffers.y = `write ${quadType(type, wide)}`;
  buffers.final_state = `${isInPlace ? "add" : "write"} ${quadType("f32", wideState)}`;
  return buffers;
}

function forwardBody(spec: ForwardSpec): string {
  const { type, wide, wideState } = spec;
  const isWithY = spec.pass !== "ends";
  return [
    constants(spec),
    ACTIVATIONS,
    LOAD_PACKED,
    loadQuad("x", wide),
    loadQuad("dt_raw", wide),
    isWithY && spec.hasZ ? loadQuad("z", wide) : "",
    spec.pass === "whole" && spec.initial === "read" ? loadQuad("initial_state", wideState) : "",
    isWithY ? storeQuad("y", type, wide) + storeQuad("final_state", "f32", wideState) : "",
    isWithY && spec.pass === "whole" && spec.initial === "inPlace" ? loadQuad("final_state", wideState) : "",
    spec.saveEvery > 0 ? storeQuad("saved_states", "f32", wideState) : "",
    mainFunction(spec),
  ].join("\n");
}

function constants(spec: ForwardSpec): string {
  const { channels, steps, vectors, dState } = spec;
  return /* wgsl */ `
const D_STATE = ${dState}u;
const CHANNELS = ${channels}u;
const STEPS = ${steps}u;
const STATE_THREADS = ${stateThreads(spec)}u;
const VECTORS = ${vectors}u;
const STEP_VECTORS = STATE_THREADS * VECTORS;
const THREADS = CHANNELS * STATE_THREADS;
// A row of one more, so that four rows at once lie in different banks.
const ROW = CHANNELS + 1u;
// dt and dt x of a tile.
var<workgroup> tile_dt: array<vec2f, STEPS * ROW>;
var<workgroup> tile_B: array<vec4f, STEPS * STEP_VECTORS>;
${spec.pass === "ends" ? "" : "var<workgroup> tile_C: array<vec4f, STEPS * STEP_VECTORS>;\n// C h over the states of one thread.\nvar<workgroup> tile_y: array<f32, STATE_THREADS * STEPS * ROW>;"}
${spec.hasStarts ? "// 0 where a document starts, else 1.\nvar<workgroup> tile_kept: array<f32, STEPS>;" : ""}`;
}

/** Quads of a tile that a thread loads: of x, and of B. */
function loads(spec: ForwardSpec): { tokens: number; rows: number; matrices: number } {
  const threads = spec.channels * stateThreads(spec);
  const rows = threads / (spec.channels / 4);
  const matrices = Math.ceil((spec.steps * stateThreads(spec) * spec.vectors) / threads);
  return { tokens: Math.ceil(spec.steps / rows), rows, matrices };
}

function mainFunction(spec: ForwardSpec): string {
  const { pass, vectors, hasStarts } = spec;
  const { tokens, matrices } = loads(spec);
  const isWithY = pass !== "ends";
  return /* wgsl */ `
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
${PLACES}
${isWithY ? "  let skip_factor = load_D(quad_channel, quad_count);" : ""}
${repeat(vectors, (v) => beginState(spec, v))}
${isWithY ? "" : "  var dt_sum = 0.0;\n  var all_kept = 1.0;"}
${repeat(tokens, (q) => `  var x${q} = vec4f(); var raw${q} = vec4f(); ${spec.hasZ && isWithY ? `var z${q} = vec4f(); var gate${q} = vec4f();` : ""} ${isWithY ? `var skip${q} = vec4f();` : ""}\n`)}
${repeat(matrices, (q) => `  var B${q} = vec4f();${isWithY ? ` var C${q} = vec4f();` : ""}\n`)}
${hasStarts ? "  var kept = 1.0;" : ""}
${loadTile(spec, "first_step")}
  for (var tile = first_step; tile < end_step; tile += STEPS) {
${stageTile(spec)}
    workgroupBarrier();
    if (tile + STEPS < end_step) {
${loadTile(spec, "tile + STEPS")}
    }
${saveStates(spec)}
    let steps = min(STEPS, end_step - tile);
    for (var step = 0u; step < steps; step += ${spec.unroll}u) {
${repeat(spec.unroll, (i) => oneStep(spec, i))}
    }
    workgroupBarrier();
${isWithY ? finishTile(spec) : ""}
  }
${endStates(spec)}
}`;
}

/** A, and the state before the first step; zeros for states beyond dState. */
function beginState(spec: ForwardSpec, v: number): string {
  const { pass, initial } = spec;
  const state = initial === "read" ? "initial_state" : "final_state";
  const load =
    pass === "ends" || (pass === "whole" && initial === "zero")
      ? ""
      : pass === "chunks"
        ? `h${v} = chunk_states[chunk_at + ${v}u];`
        : `h${v} = load_${state}(sequence * params.d_inner + channel, n${v}, params.d_state - n${v});`;
  return /* wgsl */ `
  let n${v} = (state_thread * VECTORS + ${v}u) * 4u;
  var a${v} = vec4f();
  var h${v} = vec4f();
  if (is_channel && n${v} < D_STATE) {
    a${v} = load_A(channel, n${v});
    ${load}
  }`;
}

/** From memory into registers, while the tile before is computed. Steps beyond the end have dt = 0 and change nothing. */
function loadTile(spec: ForwardSpec, first: string): string {
  const { tokens, rows, matrices } = loads(spec);
  const isWithY = spec.pass !== "ends";
  const token = (q: number): string => /* wgsl */ `
      if (${first} + quad_step + ${q * rows}u < end_step && quad_count > 0u) {
        let row = first_row + ${first} + quad_step + ${q * rows}u;
        x${q} = load_x(row, quad_channel, quad_count);
        raw${q} = load_dt_raw(row, quad_channel, quad_count);
        ${isWithY && spec.hasZ ? `z${q} = load_z(row, quad_channel, quad_count);` : ""}
      }`;
  const matrix = (q: number): string => /* wgsl */ `
      {
        let i = thread + ${q}u * THREADS;
        let row = ${first} + i / STEP_VECTORS;
        let n = (i % STEP_VECTORS) * 4u;
        if (row < end_step) {
          B${q} = load_B(first_row + row, B_group, n);
          ${isWithY ? `C${q} = load_C(first_row + row, B_group, n);` : ""}
        }
      }`;
  const kept = /* wgsl */ `
      kept = 1.0;
      if (thread < STEPS && ${first} + thread < end_step) { kept = load_kept(first_row + ${first} + thread); }`;
  return repeat(tokens, token) + repeat(matrices, matrix) + (spec.hasStarts ? kept : "");
}

/** From registers into workgroup memory; on the way dt, the skip and the gate. */
function stageTile(spec: ForwardSpec): string {
  const { tokens, rows, matrices } = loads(spec);
  const isWithY = spec.pass !== "ends";
  const token = (q: number): string => /* wgsl */ `
    if (quad_step + ${q * rows}u < STEPS) {
      let step = quad_step + ${q * rows}u;
      var dt = ${spec.softplus ? `softplus(raw${q} + bias)` : `raw${q} + bias`};
      if (tile + step >= end_step) { dt = vec4f(); }
      let dt_x = dt * x${q};
${repeat(4, (i) => `      tile_dt[step * ROW + quad_column + ${i}u] = vec2f(dt[${i}], dt_x[${i}]);\n`)}
      ${isWithY ? `skip${q} = skip_factor * x${q};` : ""}
      ${isWithY && spec.hasZ ? `gate${q} = z${q} * sigmoid(z${q});` : ""}
    }`;
  const matrix = (q: number): string => /* wgsl */ `
    if (thread + ${q}u * THREADS < STEPS * STEP_VECTORS) {
      tile_B[thread + ${q}u * THREADS] = B${q};
      ${isWithY ? `tile_C[thread + ${q}u * THREADS] = C${q};` : ""}
    }`;
  const kept = "    if (thread < STEPS) { tile_kept[thread] = kept; }";
  return repeat(tokens, token) + repeat(matrices, matrix) + (spec.hasStarts ? kept : "");
}

function saveStates({ saveEvery, vectors }: ForwardSpec): string {
  if (saveEvery === 0) return "";
  return /* wgsl */ `
    if (tile % ${saveEvery}u == 0u && is_channel) {
      let saved = (sequence * params.chunk_starts + tile / ${saveEvery}u) * params.d_inner + channel;
${repeat(vectors, (v) => `      if (n${v} < D_STATE) { store_saved_states(saved, n${v}, params.d_state - n${v}, h${v}); }\n`)}
    }`;
}

function oneStep(spec: ForwardSpec, i: number): string {
  const { vectors, hasStarts, pass } = spec;
  const at = `(step + ${i}u) * STEP_VECTORS + state_thread * VECTORS`;
  const kept = hasStarts ? `tile_kept[step + ${i}u] * ` : "";
  const sum = repeat(vectors, (v) => `${v > 0 ? " + " : ""}dot(h${v}, tile_C[${at} + ${v}u])`);
  return /* wgsl */ `
      {
        let dt = tile_dt[(step + ${i}u) * ROW + c];
${repeat(vectors, (v) => `        h${v} = ${kept}exp2(dt.x * a${v}) * h${v} + dt.y * tile_B[${at} + ${v}u];\n`)}
        ${pass === "ends" ? "dt_sum += dt.x;" : `tile_y[(state_thread * STEPS + step + ${i}u) * ROW + c] = ${sum};`}
        ${pass === "ends" && hasStarts ? `all_kept *= tile_kept[step + ${i}u];` : ""}
      }`;
}

/** The sums over the states of four channels and one step, the skip and the gate. */
function finishTile(spec: ForwardSpec): string {
  const { tokens, rows } = loads(spec);
  return repeat(
    tokens,
    (q) => /* wgsl */ `
    if (quad_step + ${q * rows}u < STEPS && tile + quad_step + ${q * rows}u < end_step && quad_count > 0u) {
      let at = (quad_step + ${q * rows}u) * ROW + quad_column;
      var sum = skip${q};
      for (var s = 0u; s < ${loopEnd(spec.unroll > 1, "STATE_THREADS")}; s++) {
        let from_states = at + s * STEPS * ROW;
        sum += vec4f(tile_y[from_states], tile_y[from_states + 1u], tile_y[from_states + 2u], tile_y[from_states + 3u]);
      }
      store_y(first_row + tile + quad_step + ${q * rows}u, quad_channel, quad_count, sum${spec.hasZ ? ` * gate${q}` : ""});
    }`,
  );
}

function endStates(spec: ForwardSpec): string {
  const { pass, vectors, hasStarts } = spec;
  if (pass === "ends")
    return /* wgsl */ `
  if (is_channel) {
${repeat(vectors, (v) => `    chunk_states[chunk_at + ${v}u] = h${v};\n`)}
    if (state_thread == 0u) { sums[(sequence * params.chunks + chunk) * params.d_inner + channel] = dt_sum; }
  }
  ${hasStarts ? "if (group.x == 0u && thread == 0u) { sums[params.chunks * params.d_inner * params.batch + sequence * params.chunks + chunk] = all_kept; }" : ""}`;
  return /* wgsl */ `
  if (is_channel && end_step == params.length) {
${repeat(vectors, (v) => `    if (n${v} < D_STATE) { store_final_state(sequence * params.d_inner + channel, n${v}, params.d_state - n${v}, h${v}); }\n`)}
  }`;
}
