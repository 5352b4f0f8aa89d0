// The kernels of a block's step: norm with input projection and convolution; products; and the step of the scan.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { ACTIVATIONS, loadQuad, quadType, repeat, storeQuad } from "../selective-scan/webgpu-wgsl.ts";
import type { ProductSpec, WeightFormat } from "./webgpu-product.ts";
import { productKernel, WEIGHT_TYPE } from "./webgpu-product.ts";

/** Threads of a workgroup of {@link scanStep}. */
export const SCAN_GROUP = 64;

const SAMPLE = { inputs: 64, rows: 1, format: "f32", perTeam: 2, split: 1, subgroup: 32, norm: true } as const;
const HALF_SAMPLE = { ...SAMPLE, inputs: 72, rows: 3, format: "f16", perTeam: 1, split: 8 } as const;

type InProjectionSpec = ProductSpec & {
  readonly dInner: number;
  /** Taps of the convolution. */
  readonly width: number;
  readonly bias: boolean;
  readonly convBias: boolean;
};

/**
 * xz = inProj · rmsNorm(hidden) (+ bias); its first half then goes through the convolution, whose state moves on by one
 * input, and SiLU.
 */
export const inProjection: KernelFamily<InProjectionSpec> = defineKernel<InProjectionSpec>(
  "inProjection",
  [
    { ...SAMPLE, dInner: 32, width: 4, bias: true, convBias: true },
    { ...HALF_SAMPLE, dInner: 32, width: 2, bias: false, convBias: false },
    { ...SAMPLE, subgroup: 1, dInner: 32, width: 3, bias: false, convBias: true },
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
      y: "write f32",
    },
    params: ["outputs", "scales_at", "eps: f32"],
    body: `${ACTIVATIONS}
const D_INNER = ${spec.dInner}u;
const WIDTH = ${spec.width}u;
${productKernel(spec, prepareConvolution(spec), finishConvolution(spec))}`,
  }),
);

function prepareConvolution({ width, bias, convBias }: InProjectionSpec): string {
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
${bias ? "  if (is_mine) { own_bias = bias[params.bias_at + output]; }" : ""}`;
}

function finishConvolution({ width }: InProjectionSpec): string {
  const last = width - 1;
  return /* wgsl */ `
    value += own_bias;
    if (is_convolved) {
${repeat(width - 2, (k) => `      conv[conv_first + ${k}u * D_INNER] = before_${k + 1};\n`)}
      conv[conv_first + ${width - 2}u * D_INNER] = value;
      var sum = tap_bias_here + tap_${last} * value;
${repeat(width - 1, (k) => `      sum += tap_${k} * before_${k};\n`)}
      value = sum * sigmoid(vec4f(sum)).x;
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
};

/**
 * dt = softplus(dtProj · dtBC[..dtRank] + bias); h = exp(-dt exp(A_log)) h + dt B x, in place; y = (C h + D x) silu(z).
 * A lane has four states of a channel; the lanes of a channel share its sums.
 */
export const scanStep: KernelFamily<ScanStepSpec> = defineKernel(
  "scanStep",
  [
    { dInner: 32, dState: 16, dtRank: 4, format: "f32" },
    { dInner: 32, dState: 6, dtRank: 3, format: "f16" },
    { dInner: 32, dState: 8, dtRank: 3, format: "int8" },
  ],
  (spec) => {
    const { dState, dtRank, format } = spec;
    const isWide = { states: dState % 4 === 0, weight: dtRank % 4 === 0, dtBC: dState % 4 === 0 && dtRank % 4 === 0 };
    return {
      buffers: {
        xz: "read f32",
        dtBC: `read ${quadType("f32", isWide.dtBC)}`,
        weight: `read ${format === "int8" ? "u32" : quadType(format, isWide.weight)}`,
        bias: "read f32",
        A_log: `read ${quadType("f32", isWide.states)}`,
        D: "read f32",
        h: `add ${quadType("f32", isWide.states)}`,
        y: "write f32",
      },
      params: ["weight_row", "scales_at"],
      body: scanStepText(spec, isWide),
    };
  },
);

function scanStepText({ dInner, dState, dtRank, format }: ScanStepSpec, isWide: WideLoads): string {
  return /* wgsl */ `
const D_INNER = ${dInner}u;
const D_STATE = ${dState}u;
const DT_RANK = ${dtRank}u;
const LANES = ${Math.ceil(dState / 4)}u;
const CHANNELS = ${SCAN_GROUP}u / LANES;
var<workgroup> dt_parts: array<f32, ${SCAN_GROUP}>;
var<workgroup> y_parts: array<f32, ${SCAN_GROUP}>;
${ACTIVATIONS}${loadQuad("dtBC", isWide.dtBC)}${format === "int8" ? LOAD_INT8 : loadQuad("weight", isWide.weight)}
${loadQuad("A_log", isWide.states)}${loadQuad("h", isWide.states)}${storeQuad("h", "f32", isWide.states)}
${SCAN_MAIN}`;
}

const SCAN_MAIN = /* wgsl */ `@compute @workgroup_size(${SCAN_GROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.y;
  let lane = thread % LANES;
  let channel = group.x * CHANNELS + thread / LANES;
  let is_inside = thread / LANES < CHANNELS && channel < D_INNER;
  let state = 4u * lane;
  let count = min(4u, D_STATE - state);
  var A = vec4f();
  var B = vec4f();
  var C = vec4f();
  var before = vec4f();
  var x = 0.0;
  var z = 0.0;
  var skip = 0.0;
  var dt_part = 0.0;
  if (is_inside) {
    x = xz[params.xz_at + row * params.xz_stride + channel];
    z = xz[params.xz_at + row * params.xz_stride + D_INNER + channel];
    skip = D[params.D_at + channel];
    A = -exp(load_A_log(channel, state, count));
    B = load_dtBC(row, DT_RANK + state, count);
    C = load_dtBC(row, DT_RANK + D_STATE + state, count);
    before = load_h(row * D_INNER + channel, state, count);
    if (lane == 0u) { dt_part = bias[params.bias_at + channel]; }
    for (var i = state; i < DT_RANK; i += 4u * LANES) {
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
    let after = exp(dt * A) * before + dt * x * B;
    store_h(row * D_INNER + channel, state, count, after);
    y_part = dot(C, after);
  }
  y_parts[thread] = y_part;
  workgroupBarrier();
  if (is_inside && lane == 0u) {
    var sum = skip * x;
    for (var i = 0u; i < LANES; i++) { sum += y_parts[thread + i]; }
    y[params.y_at + row * params.y_stride + channel] = sum * z * sigmoid(vec4f(z)).x;
  }
}`;

/** `load_weight(row, column, count)` from rows of bytes, padded with zeros, and the scales behind them. */
const LOAD_INT8 = /* wgsl */ `
fn load_weight(row: u32, column: u32, count: u32) -> vec4f {
  let scale = bitcast<f32>(weight[params.scales_at / 4u + row]);
  return scale * vec4f(unpack4xI8(weight[(row * params.weight_row + column) / 4u]));
}`;
