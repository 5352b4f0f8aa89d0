// The backward kernel of the selective scan on WebGPU: walks from the end of the sequence, a tile of steps after the other,
// computes the states of a tile again, and carries q, the gradient of the state. Formulas and layout: README.md.
// Source: Gu & Dao 2023, Alg. 2.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { ScanKind, ScanLayout } from "./webgpu-layout.ts";
import { FLUSH_LANE_SUMS, sumOverLanes, walkBackByLanes, walkBackByRounds } from "./webgpu-backward-walk.ts";
import {
  aheadRegisters,
  constants,
  entry,
  loadAhead,
  places,
  quadsOf,
  stageAhead,
  stageTile,
} from "./webgpu-backward-tile.ts";
import { BARE_KIND, SAMPLE_KIND, SAMPLE_LAYOUT, stateThreads } from "./webgpu-layout.ts";
import { LOAD_PACKED, PACKED_PARAMS } from "./webgpu-pack.ts";
import { ACTIVATIONS, loadQuad, loopEnd, quadType, repeat, storeQuad, unrolled } from "./webgpu-wgsl.ts";

export type BackwardSpec = ScanLayout &
  ScanKind & {
    /** all: every gradient. ends: only what a chunk hands to the one before it, from zero. */
    readonly pass: "all" | "ends";
    /** Steps between saved states; a multiple of the steps of a tile. */
    readonly saveEvery: number;
    /** Steps whose states and decays a thread holds at once; a divisor of `steps`, and all of them without lanes. */
    readonly sub: number;
    /** Steps whose products for grad.B and grad.C are summed over channels at once, through workgroup memory. */
    readonly round: number;
    /** Lanes of a subgroup, which then sums over its channels by itself: `channels` is as many. 0: through workgroup memory. */
    readonly lanes: number;
    readonly hasGradY: boolean;
    /** How gradients are written; none: nobody asked; joined: side by side into one scratch tensor, `grads`. */
    readonly gradX: Target;
    readonly gradDt: Target;
    readonly gradZ: Target;
  };
export type Target = "none" | "write" | "add" | "joined";

/** Bytes of workgroup memory of a backward kernel. */
export function backwardBytes(
  layout: ScanLayout & { readonly dState: number; readonly round: number; readonly lanes: number },
): number {
  const { vectors, channels, steps, round, lanes } = layout;
  const threads = stateThreads(layout);
  const row = channels + 1;
  const products = lanes > 0 ? 32 * steps * threads * vectors : 32 * round * threads * vectors * row;
  return 4 * steps * (3 * row + 3 * threads * row + 8 * threads * vectors + 1) + products;
}

const SAMPLE = { ...SAMPLE_LAYOUT, steps: 8, sub: 8, round: 2, lanes: 0, saveEvery: 16 } as const;

export const scanBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "scanBackward",
  [
    { ...SAMPLE, ...SAMPLE_KIND, pass: "all", hasGradY: true, gradX: "write", gradDt: "add", gradZ: "write" },
    {
      ...SAMPLE,
      ...SAMPLE_KIND,
      channels: 32,
      lanes: 32,
      steps: 16,
      pass: "all",
      hasGradY: true,
      gradX: "write",
      gradDt: "write",
      gradZ: "add",
    },
    { ...SAMPLE, ...SAMPLE_KIND, pass: "ends", hasGradY: true, gradX: "none", gradDt: "none", gradZ: "none" },
    {
      ...SAMPLE,
      ...BARE_KIND,
      pass: "all",
      vectors: 2,
      unroll: 1,
      hasGradY: true,
      gradX: "add",
      gradDt: "write",
      gradZ: "none",
    },
    { ...SAMPLE, ...BARE_KIND, pass: "all", hasGradY: false, gradX: "none", gradDt: "write", gradZ: "none" },
    { ...SAMPLE, ...SAMPLE_KIND, pass: "all", hasGradY: true, gradX: "joined", gradDt: "joined", gradZ: "joined" },
    { ...SAMPLE, ...BARE_KIND, pass: "ends", hasGradY: true, gradX: "none", gradDt: "none", gradZ: "none" },
  ],
  (spec) => ({ buffers: backwardBuffers(spec), params: BACKWARD_PARAMS, body: backwardBody(spec) }),
);

const BACKWARD_PARAMS = [
  "batch",
  "length",
  "d_inner",
  "d_state",
  "group_channels",
  "group_blocks",
  "chunk_steps",
  "chunks",
  "chunk_starts",
  "A_sums_at",
  "channel_sums_at",
  "carried_at",
  "once",
  ...PACKED_PARAMS,
];

type BufferUses = Record<string, `${"read" | "write" | "add"} ${string}`>;

function backwardBuffers(spec: BackwardSpec): BufferUses {
  const { type, wide, wideState } = spec;
  const quad = quadType(type, wide);
  const buffers: BufferUses = { dt_raw: `read ${quad}`, packed: "read vec4<f32>" };
  if (spec.hasZ) buffers.z = `read ${quad}`;
  if (spec.hasGradY) buffers.grad_y = `read ${quad}`;
  buffers.partials = "add f32";
  if (spec.pass === "ends") return { ...buffers, sums: "add f32" };
  buffers.x = `read ${quad}`;
  buffers.saved_states = `read ${quadType("f32", wideState)}`;
  const targets = { grad_x: spec.gradX, grad_dt_raw: spec.gradDt, grad_z: spec.gradZ };
  for (const [name, target] of Object.entries(targets))
    if (target === "joined") buffers.grads = `add ${quad}`;
    else if (target !== "none") buffers[name] = `${target} ${quad}`;
  return buffers;
}

function backwardBody(spec: BackwardSpec): string {
  const { type, wide, pass } = spec;
  const isAll = pass === "all";
  const target = (name: string, place: number, kind: Target): string => {
    if (!isAll || kind === "none") return "";
    return kind === "joined" ? storeJoined(name, place) : storeQuad(name, type, wide, kind === "add");
  };
  const isJoined = [spec.gradX, spec.gradDt, spec.gradZ].includes("joined");
  return [
    constants(spec),
    ACTIVATIONS,
    isAll && spec.lanes > 0 ? sumOverLanes(spec.lanes) : "",
    LOAD_PACKED,
    loadQuad("dt_raw", wide),
    spec.hasZ ? loadQuad("z", wide) : "",
    spec.hasGradY ? loadQuad("grad_y", wide) : "",
    isAll ? loadQuad("x", wide) + loadQuad("saved_states", spec.wideState) : "",
    isAll && isJoined ? storeQuad("grads", type, wide) : "",
    target("grad_x", 0, spec.gradX),
    target("grad_dt_raw", 1, spec.gradDt),
    target("grad_z", 2, spec.gradZ),
    isAll ? LOAD_CARRIED + mainFunction(spec) : endsFunction(spec),
  ].join("\n");
}

/** `store_NAME` into `grads`, whose rows hold the gradients of x, dtRaw and z one behind the other. */
function storeJoined(name: string, place: number): string {
  return /* wgsl */ `
fn store_${name}(row: u32, column: u32, count: u32, quad: vec4f) {
  store_grads(row, ${place}u * params.d_inner + column, count, quad);
}`;
}

/** q of a vector of states to where it lies before a chunk, from `at` on. */
function storeCarried(v: number): string {
  return repeat(4, (i) => `    partials[at + ${4 * v + i}u] = q${v}[${i}];\n`);
}

/** What a chunk hands on to its left when nothing comes from its right: q at its first step; and its sum of dt. */
function endsFunction(spec: BackwardSpec): string {
  const { vectors, hasStarts } = spec;
  const kept = hasStarts ? "tile_kept[step] * " : "";
  return /* wgsl */ `${entry(spec)}
${places(spec)}
${repeat(vectors, (v) => `  var q${v} = vec4f();\n`)}
  var dt_sum = 0.0;
  ${hasStarts ? "var all_kept = 1.0;" : ""}
  let tiles = (end_step - first_step + STEPS - 1u) / STEPS;
  for (var j = 0u; j < tiles; j++) {
    let tile = first_step + (tiles - 1u - j) * STEPS;
${stageTile(spec, { withB: false, withO: true })}
    workgroupBarrier();
    let steps = min(STEPS, end_step - tile);
    for (var i = 0u; i < steps; i++) {
      let step = steps - 1u - i;
      let dt = tile_dt[step * ROW + c].x;
      let o = tile_o[step * ROW + c];
      dt_sum += dt;
      ${hasStarts ? "all_kept *= tile_kept[step];" : ""}
${repeat(vectors, (v) => `      q${v} = ${kept}exp2(dt * a${v}) * (q${v} + o * tile_C[step * STEP_VECTORS + state_thread * VECTORS + ${v}u]);\n`)}
    }
    workgroupBarrier();
  }
  if (is_channel) {
    let at = params.carried_at + state_at;
${repeat(vectors, (v) => storeCarried(v))}
    if (state_thread == 0u) { sums[(sequence * params.chunks + chunk) * params.d_inner + channel] = dt_sum; }
  }
  ${hasStarts ? "if (group.x == 0u && thread == 0u) { sums[params.chunks * params.d_inner * params.batch + sequence * params.chunks + chunk] = all_kept; }" : ""}
}`;
}

const LOAD_CARRIED = /* wgsl */ `
fn load_carried(at: u32) -> vec4f {
  return vec4f(partials[at], partials[at + 1u], partials[at + 2u], partials[at + 3u]);
}`;

function mainFunction(spec: BackwardSpec): string {
  const { vectors } = spec;
  return /* wgsl */ `${entry(spec)}
${places(spec)}
  let skip_factor = load_D(quad_channel, quad_count);
  var D_sum = vec4f();
  var bias_sum = vec4f();
${repeat(vectors, (v) => `  var A_sum${v} = vec4f();\n  var q${v} = vec4f();\n  if (is_channel) { q${v} = load_carried(params.carried_at + state_at + ${4 * v}u); }\n`)}
  // Of some steps: the states before each and behind the last, and the decays.
${repeat(vectors, (v) => `  var states${v}: array<vec4f, SUB + 1u>;\n  var decays${v}: array<vec4f, SUB>;\n`)}
${aheadRegisters(spec)}
${spec.steps < spec.saveEvery ? "  // The states before the tiles of a piece between two saved states.\n  var tile_states: array<vec4f, (SAVE_EVERY / STEPS) * VECTORS>;" : ""}
  let pieces = (end_step - first_step + SAVE_EVERY - 1u) / SAVE_EVERY;
  {
    let ahead = first_step + ((end_step - first_step + STEPS - 1u) / STEPS - 1u) * STEPS;
${loadAhead(spec)}
  }
  for (var p = 0u; p < pieces; p++) {
    let piece = first_step + (pieces - 1u - p) * SAVE_EVERY;
    let tiles = (min(SAVE_EVERY, end_step - piece) + STEPS - 1u) / STEPS;
    let saved = (sequence * params.chunk_starts + piece / SAVE_EVERY) * params.d_inner + channel;
${repeat(
  vectors,
  (v) => /* wgsl */ `
    var h${v} = vec4f();
    if (is_channel && n${v} < D_STATE) { h${v} = load_saved_states(saved, n${v}, params.d_state - n${v}); }`,
)}
${spec.steps < spec.saveEvery ? statesOfTiles(spec) : ""}
    for (var j = 0u; j < tiles; j++) {
      let tile = piece + (tiles - 1u - j) * STEPS;
${stageAhead(spec)}
      workgroupBarrier();
      if (tile > first_step) {
        let ahead = tile - STEPS;
${loadAhead(spec)}
      }
${spec.steps < spec.saveEvery ? repeat(vectors, (v) => `      h${v} = tile_states[(tiles - 1u - j) * VECTORS + ${v}u];\n`) : ""}
${spec.sub < spec.steps ? walkBySubs(spec) : walkAtOnce(spec)}
${spec.lanes > 0 ? `      workgroupBarrier();\n${FLUSH_LANE_SUMS}` : ""}
${finishTile(spec)}
    }
  }
${endSums(spec)}
}`;
}

/** Forward once through a piece of several tiles, for the states before each. */
function statesOfTiles(spec: BackwardSpec): string {
  const { vectors } = spec;
  return /* wgsl */ `
${repeat(vectors, (v) => `    tile_states[${v}] = h${v};\n`)}
    for (var j = 1u; j < tiles; j++) {
      let tile = piece + (j - 1u) * STEPS;
${stageTile(spec, { withB: true, withO: false })}
      workgroupBarrier();
      let steps = min(STEPS, end_step - tile);
      for (var step = 0u; step < steps; step++) {
${stepForward(spec)}
      }
${repeat(vectors, (v) => `      tile_states[j * VECTORS + ${v}u] = h${v};\n`)}
      workgroupBarrier();
    }`;
}

function stepForward(spec: BackwardSpec): string {
  const vector = (v: number): string =>
    `        h${v} = ${keptAt(spec, "step")}exp2(dt.x * a${v}) * h${v} + dt.y * tile_B[step * STEP_VECTORS + state_thread * VECTORS + ${v}u];\n`;
  return `        let dt = tile_dt[step * ROW + c];\n${repeat(spec.vectors, vector)}`;
}

/** Again and back through all steps of a tile. */
function walkAtOnce(spec: BackwardSpec): string {
  return /* wgsl */ `
      let base = 0u;
${repeat(spec.vectors, (v) => `      states${v}[0] = h${v};\n`)}
${unrolled(spec.unroll > 1, { count: spec.sub, name: "i" }, (i) => stepAgain(spec, i))}
${spec.lanes > 0 ? walkBackByLanes(spec) : walkBackByRounds(spec)}`;
}

/** The same by parts of a tile, from the last: a thread holds the states of one part, and those before each. */
function walkBySubs(spec: BackwardSpec): string {
  const { vectors, steps, sub } = spec;
  return /* wgsl */ `
${repeat(vectors, (v) => `      var before${v}: array<vec4f, STEPS / SUB>;\n      before${v}[0] = h${v};\n`)}
      for (var step = 0u; step < STEPS - SUB; step++) {
${stepForward(spec)}
        if (step % SUB == SUB - 1u) {
${repeat(vectors, (v) => `          before${v}[step / SUB + 1u] = h${v};\n`)}
        }
      }
      for (var part = 0u; part < ${steps / sub}u; part++) {
        let base = (${steps / sub - 1}u - part) * SUB;
${repeat(vectors, (v) => `        states${v}[0] = before${v}[base / SUB];\n`)}
${unrolled(spec.unroll > 1, { count: sub, name: "i" }, (i) => stepAgain(spec, i))}
${walkBackByLanes(spec)}
      }`;
}

function keptAt({ hasStarts }: BackwardSpec, step: string): string {
  return hasStarts ? `tile_kept[${step}] * ` : "";
}

/** The state behind step `base + i` again; the decays stay in registers for the way back. */
function stepAgain(spec: BackwardSpec, i: string): string {
  const { vectors, gradZ } = spec;
  const Ch = repeat(vectors, (v) => `${v > 0 ? " + " : ""}dot(states${v}[${i} + 1u], tile_C[at + ${v}u])`);
  return /* wgsl */ `
      {
        let dt = tile_dt[(base + ${i}) * ROW + c];
        let at = (base + ${i}) * STEP_VECTORS + state_thread * VECTORS;
${repeat(
  vectors,
  (v) => /* wgsl */ `
        decays${v}[${i}] = ${keptAt(spec, `base + ${i}`)}exp2(dt.x * a${v});
        states${v}[${i} + 1u] = decays${v}[${i}] * states${v}[${i}] + dt.y * tile_B[at + ${v}u];`,
)}
        ${gradZ === "none" ? "" : `tile_Ch[(state_thread * STEPS + base + ${i}) * ROW + c] = ${Ch};`}
      }`;
}

/** Sums over the states of four channels and one step: the gradients of x, dtRaw and z. */
function finishTile(spec: BackwardSpec): string {
  const { rows, times } = quadsOf(spec);
  const parts = (name: string): string =>
    `vec4f(tile_${name}[part], tile_${name}[part + 1u], tile_${name}[part + 2u], tile_${name}[part + 3u])`;
  const finish = (q: number): string => /* wgsl */ `
      if (quad_step + ${q * rows}u < STEPS && tile + quad_step + ${q * rows}u < end_step && quad_count > 0u) {
        let step = quad_step + ${q * rows}u;
        let row = first_row + tile + step;
        var gB = vec4f();
        var Aqh = vec4f();
        var Ch = vec4f();
        for (var s = 0u; s < ${loopEnd(spec.unroll > 1, "STATE_THREADS")}; s++) {
          let part = (s * STEPS + step) * ROW + quad_column;
          gB += ${parts("gB")};
          Aqh += ${parts("Aqh")};
          ${spec.gradZ === "none" ? "" : `Ch += ${parts("Ch")};`}
        }
        ${spec.gradZ === "none" ? "" : `store_grad_z(row, quad_channel, quad_count, z_part${q} * (Ch + skip_factor * x${q}));`}
        let gradient_dt = (x${q} * gB + LN_2 * Aqh) * slope${q};
        D_sum += o${q} * x${q};
        bias_sum += gradient_dt;
        ${spec.gradX === "none" ? "" : `store_grad_x(row, quad_channel, quad_count, dt${q} * gB + skip_factor * o${q});`}
        ${spec.gradDt === "none" ? "" : "store_grad_dt_raw(row, quad_channel, quad_count, gradient_dt);"}
      }`;
  return repeat(times, finish);
}

/** What was summed along time: for A by state, for D and dtBias by channel; and q, for what lies to the left. */
function endSums({ vectors, unroll }: BackwardSpec): string {
  return /* wgsl */ `
  if (is_channel) {
    let A_at = params.A_sums_at + state_at;
    let at = params.carried_at + state_at;
${repeat(vectors, (v) => storeCarried(v) + repeat(4, (i) => `    partials[A_at + ${4 * v + i}u] = A_sum${v}[${i}];\n`))}
  }
  // Threads with the same four channels: their sums, one below the other.
  workgroupBarrier();
  for (var i = 0u; i < ${loopEnd(unroll > 1, "4u")}; i++) {
    tile_gB[quad_step * CHANNELS + quad_column + i] = D_sum[i];
    tile_Aqh[quad_step * CHANNELS + quad_column + i] = bias_sum[i];
  }
  workgroupBarrier();
  if (state_thread == 0u && is_channel) {
    var D_all = 0.0;
    var bias_all = 0.0;
    for (var i = 0u; i < ${loopEnd(unroll > 1, "4u * STATE_THREADS")}; i++) {
      D_all += tile_gB[i * CHANNELS + c];
      bias_all += tile_Aqh[i * CHANNELS + c];
    }
    let at = params.channel_sums_at + (sequence * params.chunks + chunk) * 2u * params.d_inner + channel;
    partials[at] = D_all;
    partials[at + params.d_inner] = bias_all;
  }`;
}
