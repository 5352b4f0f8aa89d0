// The kernels of a block's step: norm with input projection and convolution; products; and the step of the scan.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { ACTIVATIONS, loadQuad, quadType, repeat, storeQuad } from "../selective-scan/webgpu-wgsl.ts";
import type { ProductSpec, WeightFormat } from "./webgpu-product.ts";
import { GROUP, outputsOfGroup, productKernel, UNIT, WEIGHT_TYPE } from "./webgpu-product.ts";

const SAMPLE = { inputs: 64, rows: 1, format: "f32", perTeam: 2, split: 1, subgroup: 32, norm: true } as const;
const HALF_SAMPLE = { ...SAMPLE, inputs: 72, rows: 3, format: "f16", perTeam: 1, split: 8 } as const;

type InProjectionSpec = ProductSpec & {
  readonly dInner: number;
  /** Taps of the convolution. */
  readonly width: number;
  readonly bias: boolean;
  readonly convBias: boolean;
  /**
   * Outputs of xProj, of which each workgroup then adds up its own inputs' part; 0: not here. All outputs of a workgroup
   * must be x or all z, in whole loads.
   */
  readonly partial: number;
};

/**
 * xz = inProj · rmsNorm(hidden) (+ bias); its first half then goes through the convolution, whose state moves on by one
 * input, and SiLU.
 */
export const inProjection: KernelFamily<InProjectionSpec> = defineKernel<InProjectionSpec>(
  "inProjection",
  [
    { ...SAMPLE, dInner: 32, width: 4, bias: true, convBias: true, partial: 36 },
    { ...HALF_SAMPLE, dInner: 32, width: 2, bias: false, convBias: false, partial: 0 },
    { ...SAMPLE, subgroup: 1, dInner: 32, width: 3, bias: false, convBias: true, partial: 0 },
  ],
  (spec) => ({
    buffers: {
      x: "read vec4<f32>",
      norm: "read vec4<f32>",
      weight: `read ${WEIGHT_TYPE[spec.format]}`,
      ...(spec.bias ? { bias: "read f32" as const } : {}),
      taps: "read f32",
      ...(spec.convBias ? { tap_bias: "read f32" as const } : {}),
      conv: "add f32",
      ...(spec.partial > 0
        ? { x_proj: `read ${WEIGHT_TYPE[spec.format]}` as const, partials: "write f32" as const }
        : {}),
      y: "write f32",
    },
    params: ["outputs", "scales_at", "eps: f32"],
    body: `${ACTIVATIONS}
const D_INNER = ${spec.dInner}u;
const WIDTH = ${spec.width}u;
${
  spec.partial > 0
    ? `var<workgroup> own_x: array<f32, ${outputsOfGroup(spec) * spec.rows}>;
${OWN_X}`
    : ""
}
${productKernel(spec, prepareConvolution(spec), finishConvolution(spec), spec.partial > 0 ? addPartials(spec) : "")}`,
  }),
);

function prepareConvolution(spec: InProjectionSpec): string {
  const { width, bias, convBias } = spec;
  return /* wgsl */ `
  let is_convolved = is_mine && output < D_INNER;
  let conv_first = params.conv_at + row * (WIDTH - 1u) * D_INNER + output;
${repeat(width - 1, (k) => `  var before_${k} = 0.0;\n`)}
${repeat(width, (k) => `  var tap_${k} = 0.0;\n`)}
  var own_bias = 0.0;
  var tap_bias_here = 0.0;
  if (is_convolved) {
${repeat(width - 1, (k) => `    before_${k} = conv[conv_first + ${k}u * D_INNER];\n`)}
${repeat(width, (k) => `    tap_${k} = taps[params.taps_at + output * WIDTH + ${k}u];\n`)}
${convBias ? "    tap_bias_here = tap_bias[params.tap_bias_at + output];" : ""}
  }
${bias ? "  if (is_mine) { own_bias = bias[params.bias_at + output]; }" : ""}
${spec.partial > 0 ? preparePartials(spec) : ""}`;
}

const OWN_X = /* wgsl */ `
fn four_x(at: u32) -> vec4f { return vec4f(own_x[at], own_x[at + 1u], own_x[at + 2u], own_x[at + 3u]); }`;

/** Loads of a row of xProj that belong to the x of a workgroup. */
function partialLoads(spec: InProjectionSpec): number {
  return outputsOfGroup(spec) / UNIT[spec.format];
}

/** The weights of {@link addPartials}, on their way while inProj is multiplied: a thread has one column of dtBC. */
function preparePartials(spec: InProjectionSpec): string {
  const { partial, format } = spec;
  const loads = partialLoads(spec);
  return /* wgsl */ `
  let column = thread % ${partial}u;
${repeat(loads, (k) => `  var x_proj_${k}: ${WEIGHT_TYPE[format]};\n`)}
  if (first_output < D_INNER) {
    let place = (params.x_proj_at + column * D_INNER + first_output) / UNIT;
${repeat(loads, (k) => `    x_proj_${k} = x_proj[place + ${k}u];\n`)}
  }`;
}

/** The part of xProj · x that belongs to the x of this workgroup. */
function addPartials(spec: InProjectionSpec): string {
  const { partial, format } = spec;
  const quads = UNIT[format] / 4;
  return /* wgsl */ `
  if (first_output < D_INNER) {
    workgroupBarrier();
    let turns = ${Math.floor(GROUP / partial)}u;
    if (thread < turns * ${partial}u) {
      for (var own_row = thread / ${partial}u; own_row < ROWS; own_row += turns) {
        let own = own_row * GROUP_OUTPUTS;
        var sum = 0.0;
${repeat(partialLoads(spec), (k) => repeat(quads, (q) => `        sum += dot(weights(x_proj_${k}, ${q}u), four_x(own + ${4 * (k * quads + q)}u));\n`))}
        partials[params.partials_at + (first_output / GROUP_OUTPUTS * ROWS + own_row) * ${partial}u + column] = sum;
      }
    }
  }`;
}

function finishConvolution({ width, partial }: InProjectionSpec): string {
  const last = width - 1;
  return /* wgsl */ `
    value += own_bias;
    if (is_convolved) {
${repeat(width - 2, (k) => `      conv[conv_first + ${k}u * D_INNER] = before_${k + 1};\n`)}
      conv[conv_first + ${width - 2}u * D_INNER] = value;
      var sum = tap_bias_here + tap_${last} * value;
${repeat(width - 1, (k) => `      sum += tap_${k} * before_${k};\n`)}
      value = sum * sigmoid(vec4f(sum)).x;
${partial > 0 ? "      own_x[row * GROUP_OUTPUTS + thread % GROUP_OUTPUTS] = value;" : ""}
    }
    y[params.y_at + row * params.y_stride + output] = value;`;
}

type ProjectionSpec = ProductSpec & { readonly bias: boolean; readonly residual: boolean };

/** y = weight · x (+ bias) (+ residual), x normalised or not. */
export const projection: KernelFamily<ProjectionSpec> = defineKernel<ProjectionSpec>(
  "projection",
  [
    { ...SAMPLE, bias: false, residual: false },
    { ...HALF_SAMPLE, norm: false, bias: true, residual: true },
    { ...SAMPLE, format: "int8", bias: false, residual: true },
  ],
  (spec) => ({
    buffers: {
      x: "read vec4<f32>",
      ...(spec.norm ? { norm: "read vec4<f32>" as const } : {}),
      weight: `read ${WEIGHT_TYPE[spec.format]}`,
      ...(spec.bias ? { bias: "read f32" as const } : {}),
      ...(spec.residual ? { residual: "read f32" as const } : {}),
      y: "write f32",
    },
    params: ["outputs", "scales_at", "eps: f32"],
    body: productKernel(
      spec,
      /* wgsl */ `
  var added = 0.0;
  if (is_mine) {
${spec.bias ? "    added += bias[params.bias_at + output];" : ""}
${spec.residual ? "    added += residual[params.residual_at + row * params.residual_stride + output];" : ""}
  }`,
      /* wgsl */ `
    y[params.y_at + row * params.y_stride + output] = value + added;`,
    ),
  }),
);

/** What may be read four elements at a time. */
interface WideLoads {
  readonly states: boolean;
  readonly weight: boolean;
  readonly dtBC: boolean;
}

export type ScanStepSpec = {
  readonly dInner: number;
  readonly dState: number;
  readonly dtRank: number;
  readonly format: WeightFormat;
  /** Type of x, z and y. */
  readonly type: string;
  /** Whether x and z are tensors of their own; else the halves of one, which a kernel with few buffers binds once. */
  readonly isApart: boolean;
  /** Parts of dtBC, `[partials, rows, dtRank + 2 dState]`, that are added up here first; 0: it comes whole. */
  readonly partials: number;
  /** Rows of the batch, where there are parts. */
  readonly rows: number;
};

/**
 * dt = softplus(dtProj · dtBC[..dtRank] + bias); h = exp(-dt exp(A_log)) h + dt B x, in place; y = (C h + D x) silu(z).
 * A lane has four states of a channel; the lanes of a channel share its sums.
 */
export const scanStep: KernelFamily<ScanStepSpec> = defineKernel<ScanStepSpec>(
  "scanStep",
  [
    { dInner: 32, dState: 16, dtRank: 4, format: "f32", type: "f32", isApart: false, partials: 8, rows: 2 },
    { dInner: 32, dState: 6, dtRank: 3, format: "f16", type: "f16", isApart: true, partials: 0, rows: 0 },
    { dInner: 32, dState: 8, dtRank: 3, format: "int8", type: "f32", isApart: false, partials: 0, rows: 0 },
  ],
  (spec) => {
    const { dState, dtRank, format, type, isApart } = spec;
    const isWide = { states: dState % 4 === 0, weight: dtRank % 4 === 0, dtBC: dState % 4 === 0 && dtRank % 4 === 0 };
    return {
      buffers: {
        ...(isApart ? { x: `read ${type}` as const, z: `read ${type}` as const } : { xz: `read ${type}` as const }),
        dtBC: `read ${quadType("f32", isWide.dtBC)}`,
        weight: `read ${format === "int8" ? "u32" : quadType(format, isWide.weight)}`,
        bias: "read f32",
        A_log: `read ${quadType("f32", isWide.states)}`,
        D: "read f32",
        h: `add ${quadType("f32", isWide.states)}`,
        y: `write ${type}`,
      },
      params: ["weight_row", "scales_at"],
      body: scanStepText(spec, isWide),
    };
  },
);

/** Loads of a lane from dtProj that begin before anything else is done. */
const MOST_EARLY = 10;

function scanStepText(spec: ScanStepSpec, isWide: WideLoads): string {
  const { dInner, dState, dtRank, format, type, isApart, partials } = spec;
  const threads = scanThreads(spec);
  return /* wgsl */ `
const THREADS = ${threads}u;
const D_INNER = ${dInner}u;
const D_STATE = ${dState}u;
const DT_RANK = ${dtRank}u;
const LANES = ${Math.ceil(dState / 4)}u;
const TURN = 4u * LANES;
const CHANNELS = THREADS / LANES;
var<workgroup> dt_parts: array<f32, THREADS>;
var<workgroup> y_parts: array<f32, THREADS>;
${ACTIVATIONS}${partials > 0 ? gatherPartials(spec) : `${loadQuad("dtBC", isWide.dtBC)}\nfn gather(row: u32, thread: u32) {}`}
${format === "int8" ? LOAD_INT8 : loadQuad("weight", isWide.weight)}
${loadQuad("A_log", isWide.states)}${loadQuad("h", isWide.states)}${storeQuad("h", "f32", isWide.states)}
alias Activation = ${type};
${isApart ? LOAD_APART : LOAD_HALVES}
${scanMain(Math.ceil(dtRank / (4 * Math.ceil(dState / 4))))}`;
}

/** Threads of a workgroup of {@link scanStep}: more where parts are added up first, so that few do it. */
export function scanThreads({ partials }: Pick<ScanStepSpec, "partials">): number {
  return partials > 0 ? 256 : 64;
}

/** `gather` adds up the parts of a row of dtBC in workgroup memory, where `load_dtBC` finds it. Several loads are under way at a time. */
function gatherPartials(spec: ScanStepSpec): string {
  const { dState, dtRank, partials, rows } = spec;
  const columns = dtRank + 2 * dState;
  const shares = Math.floor(scanThreads(spec) / (columns / 4));
  const loads = [16, 8, 4, 2, 1].find((count) => partials % (shares * count) === 0) ?? 1;
  return /* wgsl */ `
const QUADS = ${columns / 4}u;
const SHARES = ${shares}u;
var<workgroup> shares: array<vec4f, THREADS>;
var<workgroup> row_of_dtBC: array<vec4f, QUADS>;

fn gather(row: u32, thread: u32) {
  var sum = vec4f();
  if (thread / QUADS < SHARES) {
    for (var i = thread / QUADS; i < ${partials}u; i += ${loads}u * SHARES) {
${repeat(loads, (k) => `      let part_${k} = dtBC[params.dtBC_at / 4u + ((i + ${k}u * SHARES) * ${rows}u + row) * QUADS + thread % QUADS];\n`)}
${repeat(loads, (k) => `      sum += part_${k};\n`)}
    }
  }
  shares[thread] = sum;
  workgroupBarrier();
  if (thread < QUADS) {
    var total = vec4f();
    for (var i = 0u; i < SHARES; i++) { total += shares[i * QUADS + thread]; }
    row_of_dtBC[thread] = total;
  }
  workgroupBarrier();
}

fn load_dtBC(row: u32, column: u32, count: u32) -> vec4f { return row_of_dtBC[column / 4u]; }`;
}

const LOAD_APART = /* wgsl */ `
fn load_x(row: u32, channel: u32) -> f32 { return f32(x[params.x_at + row * params.x_stride + channel]); }
fn load_z(row: u32, channel: u32) -> f32 { return f32(z[params.z_at + row * params.z_stride + channel]); }`;

const LOAD_HALVES = /* wgsl */ `
fn load_x(row: u32, channel: u32) -> f32 { return f32(xz[params.xz_at + row * params.xz_stride + channel]); }
fn load_z(row: u32, channel: u32) -> f32 { return load_x(row, D_INNER + channel); }`;

/** `turns`: times that the lanes of a channel read its weights of dtProj, four each; a few are on their way from the start. */
function scanMain(turns: number): string {
  const early = Math.min(turns, MOST_EARLY);
  return /* wgsl */ `
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.y;
  let lane = thread % LANES;
  let channel = group.x * CHANNELS + thread / LANES;
  let is_inside = thread / LANES < CHANNELS && channel < D_INNER;
  let state = 4u * lane;
  let count = min(4u, D_STATE - state);
  var A_log_here = vec4f();
  var B = vec4f();
  var C = vec4f();
  var before = vec4f();
  var input = 0.0;
  var gate = 0.0;
  var skip = 0.0;
  var dt_part = 0.0;
${repeat(early, (i) => `  var weight_${i} = vec4f();\n`)}
  if (is_inside) {
    input = load_x(row, channel);
    gate = load_z(row, channel);
    skip = D[params.D_at + channel];
    A_log_here = load_A_log(channel, state, count);
    before = load_h(row * D_INNER + channel, state, count);
${repeat(early, (i) => `    if (state + ${i}u * TURN < DT_RANK) { weight_${i} = load_weight(channel, state + ${i}u * TURN, DT_RANK - state - ${i}u * TURN); }\n`)}
  }
  gather(row, thread);
  if (is_inside) {
    B = load_dtBC(row, DT_RANK + state, count);
    C = load_dtBC(row, DT_RANK + D_STATE + state, count);
    if (lane == 0u) { dt_part = bias[params.bias_at + channel]; }
${repeat(early, (i) => `    if (state + ${i}u * TURN < DT_RANK) { dt_part += dot(weight_${i}, load_dtBC(row, state + ${i}u * TURN, DT_RANK - state - ${i}u * TURN)); }\n`)}
    for (var i = state + ${early}u * TURN; i < DT_RANK; i += TURN) {
      let left = min(4u, DT_RANK - i);
      dt_part += dot(load_weight(channel, i, left), load_dtBC(row, i, left));
    }
  }
  dt_parts[thread] = dt_part;
  workgroupBarrier();
  var y_part = 0.0;
  if (is_inside) {
    var dt = 0.0;
    for (var i = 0u; i < LANES; i++) { dt += dt_parts[thread - lane + i]; }
    dt = softplus(vec4f(dt)).x;
    let after = exp(-dt * exp(A_log_here)) * before + dt * input * B;
    store_h(row * D_INNER + channel, state, count, after);
    y_part = dot(C, after);
  }
  y_parts[thread] = y_part;
  workgroupBarrier();
  if (is_inside && lane == 0u) {
    var sum = skip * input;
    for (var i = 0u; i < LANES; i++) { sum += y_parts[thread + i]; }
    y[params.y_at + row * params.y_stride + channel] = Activation(sum * gate * sigmoid(vec4f(gate)).x);
  }
}`;
}

/** `load_weight(row, column, count)` from rows of bytes, padded with zeros, and the scales behind them. */
const LOAD_INT8 = /* wgsl */ `
fn load_weight(row: u32, column: u32, count: u32) -> vec4f {
  let scale = bitcast<f32>(weight[params.scales_at / 4u + row]);
  return scale * vec4f(unpack4xI8(weight[(row * params.weight_row + column) / 4u]));
}`;
