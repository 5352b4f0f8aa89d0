// S4D's parameters on the WebGPU backend: their zero-order hold before a kernel, and its chain rule behind one.
// dt and phases are reckoned in integers, to 30 bits and more: float32 would be a turn off after 2^20 steps. See README.md.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { CIRCLE, COMPLEX, MUL_HIGH } from "../webgpu-complex.ts";
import { gradientUse } from "../webgpu-elements.ts";
import type { S4dGradients, S4dParameters } from "./parameters.ts";
import { S4D_PARAMETERS } from "./parameters.ts";

/** Planes `[pairs, channels]` of the discrete parameters; complex numbers take two, phases too. Behind them a row of D. */
const PLANES = 12;

/** Channels and pairs of a workgroup of the kernels below. */
export const CHANNELS = 32;
export const LANES = 8;

/** The discrete parameters and D (or zeros), for kernels with {@link DISCRETE}. To be disposed of. */
export function discretize(
  backend: WebGpuBackend,
  { logDt, A_log_real, A_imag, C, D }: S4dParameters & { readonly D?: Tensor | undefined },
): Tensor {
  const [channels, pairs] = A_imag.shape;
  const discrete = emptyTensor(backend, [PLANES * pairs + 1, channels]);
  const groups = [Math.ceil(channels / CHANNELS), Math.ceil(pairs / LANES)] as const;
  const buffers = { logDt, A_log_real, A_imag, C, ...(D && { D }), discrete };
  backend.dispatch(s4dDiscretize({ hasD: D !== undefined }), buffers, { channels, pairs }, groups);
  return discrete;
}

/**
 * WGSL for a kernel with the buffer `discrete: "read u32"` and parameters `channels` and `pairs`: its elements by plane, and
 * powers of ABar.
 */
export const DISCRETE: string = /* wgsl */ `${COMPLEX}${CIRCLE}${MUL_HIGH}
const DECAY = 0u;
const PHASE = 1u;
const A_BAR = 3u;
const B_BAR = 5u;
const OF_C = 7u;
const OF_A = 9u;
const DT = 11u;

fn bits_of(plane: u32, pair: u32, channel: u32) -> u32 {
  return discrete[params.discrete_at + (plane * params.pairs + pair) * params.channels + channel];
}
fn number_of(plane: u32, pair: u32, channel: u32) -> f32 { return bitcast<f32>(bits_of(plane, pair, channel)); }
fn complex_of(plane: u32, pair: u32, channel: u32) -> vec2f {
  return vec2f(number_of(plane, pair, channel), number_of(plane + 1u, pair, channel));
}

fn skip_of(channel: u32) -> f32 { return number_of(12u, 0u, channel); }

/** ABar^step: the phase in fixed point, where whole turns fall out, the size by an exponential. */
fn power(pair: u32, channel: u32, step: u32) -> vec2f {
  let turns = bits_of(PHASE, pair, channel) * step + mul_high(bits_of(PHASE + 1u, pair, channel), step);
  return exp(number_of(DECAY, pair, channel) * f32(step)) * circle(turns);
}`;

const s4dDiscretize: KernelFamily<{ hasD: boolean }> = defineKernel(
  "s4dDiscretize",
  [{ hasD: true }, { hasD: false }],
  ({ hasD }) => ({
    buffers: {
      logDt: "read f32",
      A_log_real: "read f32",
      A_imag: "read f32",
      C: "read f32",
      ...(hasD && { D: "read f32" }),
      discrete: "write u32",
    },
    params: ["channels", "pairs"],
    body: /* wgsl */ `${COMPLEX}${CIRCLE}${MUL_HIGH}${FIXED_POINT}

fn put(plane: u32, pair: u32, channel: u32, bits: u32) {
  discrete[params.discrete_at + (plane * params.pairs + pair) * params.channels + channel] = bits;
}
fn put_complex(plane: u32, pair: u32, channel: u32, value: vec2f) {
  put(plane, pair, channel, bitcast<u32>(value.x));
  put(plane + 1u, pair, channel, bitcast<u32>(value.y));
}

@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let channel = group.x * ${CHANNELS}u + thread % ${CHANNELS}u;
  let pair = group.y * ${LANES}u + thread / ${CHANNELS}u;
  if (channel >= params.channels || pair >= params.pairs) { return; }
  let scaled = exp_fixed(logDt[params.logDt_at + channel]);
  let dt = ldexp(f32(scaled.mantissa), scaled.exponent - 31);
  let a = vec2f(
    -exp(A_log_real[params.A_log_real_at + channel * params.A_log_real_stride + pair]),
    A_imag[params.A_imag_at + channel * params.A_imag_stride + pair],
  );
  let decay = dt * a.x;
  let angle = dt * a.y;
  let phase = turns_of(scaled, a.y);
  var point = circle(phase.x);
  if (abs(angle) < 0.7) { point = near_circle(angle); }
  // Half the angle may be half a turn off, which its square does not see.
  var half = circle(phase.x >> 1u).y;
  if (abs(angle) < 1.4) { half = near_circle(0.5 * angle).y; }
  let a_bar = exp(decay) * point;
  let less = vec2f(exp_minus_1(decay) * point.x - 2.0 * half * half, a_bar.y);
  let square = dot(a, a);
  var b_bar = vec2f(dt, 0.0);
  if (square > 1e-30) { b_bar = times_conj(less, a) / square; }
  let from_c = params.C_at + channel * params.C_stride + 2u * pair;
  put(0u, pair, channel, bitcast<u32>(decay));
  put(1u, pair, channel, phase.x);
  put(2u, pair, channel, phase.y);
  put_complex(3u, pair, channel, a_bar);
  put_complex(5u, pair, channel, b_bar);
  put_complex(7u, pair, channel, vec2f(C[from_c], C[from_c + 1u]));
  put_complex(9u, pair, channel, a);
  put(11u, pair, channel, bitcast<u32>(dt));
  if (pair == 0u) { put(12u, 0u, channel, ${hasD ? "bitcast<u32>(D[params.D_at + channel])" : "0u"}); }
}`,
  }),
);

/** WGSL: e^x with a mantissa of 31 bits, and the turns of dt A_imag with a fraction of 64 bits. */
const FIXED_POINT = /* wgsl */ `
/** mantissa · 2^(exponent - 31), mantissa at least 2^31. */
struct Scaled { mantissa: u32, exponent: i32 }

/** e^x for |x| < 16. */
fn exp_fixed(x: f32) -> Scaled {
  let fixed = u32(min(abs(x), 15.99) * 134217728.0);
  // log2(e) = 3098164009.35974 / 2^31.
  var low = fixed * 3098164009u;
  var high = mul_high(fixed, 3098164009u);
  let rest = u32(f32(fixed) * 0.35974032);
  low += rest;
  if (low < rest) { high += 1u; }
  var whole = i32(high >> 26u);
  var fraction = (high << 6u) | (low >> 26u);
  if (x < 0.0) {
    whole = select(-whole - 1, -whole, fraction == 0u);
    fraction = ~fraction + 1u;
  }
  // ln(2) 2^32.
  let y = mul_high(fraction, 2977044472u);
  var sum = 0x80000000u;
  for (var k = 11u; k > 0u; k--) { sum = 0x80000000u + mul_high(y, sum) / k; }
  return Scaled(sum, whole);
}

/** The fraction of scaled · factor / 2π, in 64 bits: high and low. */
fn turns_of(scaled: Scaled, factor: f32) -> vec2u {
  let bits = bitcast<u32>(factor);
  let biased = (bits >> 23u) & 0xffu;
  if (biased == 0u) { return vec2u(0u); }
  let mantissa = ((bits & 0x7fffffu) | 0x800000u) << 8u;
  var exponent = scaled.exponent + i32(biased) - 127;
  var product = mul_high(scaled.mantissa, mantissa);
  if (product < 0x80000000u) { product = (product << 1u) | ((scaled.mantissa * mantissa) >> 31u); }
  else { exponent += 1; }
  // 1 / 2π = 2734261102 / 2^34.
  var high = mul_high(product, 2734261102u);
  var low = product * 2734261102u;
  let shift = exponent - 1;
  if (shift >= 64 || shift <= -64) { return vec2u(0u); }
  if (shift >= 32) { high = low; low = 0u; }
  if (shift <= -32) { low = high; high = 0u; }
  let bit = u32(abs(shift)) % 32u;
  if (bit > 0u) {
    if (shift > 0) {
      high = (high << bit) | (low >> (32u - bit));
      low = low << bit;
    } else {
      low = (low >> bit) | (high << (32u - bit));
      high = high >> bit;
    }
  }
  if (factor < 0.0) {
    low = ~low + 1u;
    high = ~high + select(0u, 1u, low == 0u);
  }
  return vec2u(high, low);
}

/** e^x - 1 without cancellation, for x of at most 0 (or near it). */
fn exp_minus_1(x: f32) -> f32 {
  let near = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (4.1666667e-2 + x * (8.3333333e-3 + x * (1.3888889e-3 + x * (1.9841270e-4 + x * 2.4801587e-5)))))));
  return select(exp(x) - 1.0, near, abs(x) < 0.5);
}`;

/**
 * Takes sums over time through the zero-order hold, and adds the gradients that are wanted.
 * @param sums `[planes * pairs * channels]`; of a kernel S0 and S1 (4 planes), of a scan ofPower, ofB and ofC (6)
 */
export function addGradients(
  backend: WebGpuBackend,
  { of, discrete, sums, grads }: { of: "kernel" | "scan"; discrete: Tensor; sums: Tensor; grads: S4dGradients },
): void {
  const wanted = S4D_PARAMETERS.filter((name) => grads[name]);
  const storages = new Set(wanted.map((name) => grads[name]!.storage));
  // Views of one tensor cannot be written by one kernel.
  const rounds = storages.size === wanted.length ? [wanted] : wanted.map((name) => [name]);
  const channels = discrete.columns;
  const pairs = (discrete.rows - 1) / PLANES;
  for (const names of rounds) {
    if (names.length === 0) continue;
    const outputs = Object.fromEntries(names.map((name) => [name, grads[name]!]));
    const uses = Object.fromEntries(names.map((name) => [name, gradientUse(backend, outputs[name])]));
    const groups = [Math.ceil(channels / CHANNELS)] as const;
    backend.dispatch(s4dGradients({ of, ...uses }), { discrete, sums, ...outputs }, { channels, pairs }, groups);
  }
}

type GradientsSpec = {
  of: "kernel" | "scan";
  logDt?: BufferUse;
  A_log_real?: BufferUse;
  A_imag?: BufferUse;
  C?: BufferUse;
};

const s4dGradients: KernelFamily<GradientsSpec> = defineKernel<GradientsSpec>(
  "s4dGradients",
  [
    { of: "kernel", logDt: "write f32", A_log_real: "write f32", A_imag: "write f32", C: "write f32" },
    { of: "scan", logDt: "add f32", A_log_real: "add f32", A_imag: "add f32", C: "add f32" },
    { of: "scan", C: "write f32" },
  ],
  ({ of, logDt, A_log_real, A_imag, C }) => {
    const add = (buffer: string, use: BufferUse | undefined, place: string, value: string): string =>
      use ? `${buffer}[${place}] = ${use.startsWith("add") ? `${buffer}[${place}] + ` : ""}${value};` : "";
    const at = (buffer: string, column: string): string =>
      `params.${buffer}_at + channel * params.${buffer}_stride + ${column}`;
    return {
      buffers: {
        discrete: "read u32",
        sums: "read f32",
        ...(logDt && { logDt }),
        ...(A_log_real && { A_log_real }),
        ...(A_imag && { A_imag }),
        ...(C && { C }),
      },
      params: ["channels", "pairs"],
      body: /* wgsl */ `${DISCRETE}
var<workgroup> shared_sums: array<f32, ${CHANNELS * LANES}>;

fn sum_of(plane: u32, pair: u32, channel: u32) -> vec2f {
  let first = params.sums_at + (plane * params.pairs + pair) * params.channels + channel;
  return vec2f(sums[first], sums[first + params.pairs * params.channels]);
}

@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let channel = group.x * ${CHANNELS}u + thread % ${CHANNELS}u;
  let lane = thread / ${CHANNELS}u;
  var of_log_dt = 0.0;
  if (channel < params.channels) {
    for (var pair = lane; pair < params.pairs; pair += ${LANES}u) {
      let a = complex_of(OF_A, pair, channel);
      let dt = number_of(DT, pair, channel);
      let b_bar = complex_of(B_BAR, pair, channel);
      ${of === "kernel" ? SUMS_OF_KERNEL : SUMS_OF_SCAN}
      let square = max(dot(a, a), 1e-30);
      let held = times_conj(of_b, a) / square;
      let p = of_power + times(held, complex_of(A_BAR, pair, channel));
      let q = p * dt - times(held, b_bar);
      of_log_dt += dt * times(p, a).x;
      ${add("A_log_real", A_log_real, at("A_log_real", "pair"), "q.x * a.x")}
      ${add("A_imag", A_imag, at("A_imag", "pair"), "-q.y")}
      ${add("C", C, at("C", "2u * pair"), "2.0 * of_c.x")}
      ${add("C", C, at("C", "2u * pair + 1u"), "-2.0 * of_c.y")}
    }
  }
  shared_sums[thread] = of_log_dt;
  workgroupBarrier();
  if (lane > 0u || channel >= params.channels) { return; }
  for (var other = 1u; other < ${LANES}u; other++) { of_log_dt += shared_sums[other * ${CHANNELS}u + thread]; }
  ${add("logDt", logDt, "params.logDt_at + channel", "of_log_dt")}
}`,
    };
  },
);

const SUMS_OF_KERNEL = /* wgsl */ `
      let c = complex_of(OF_C, pair, channel);
      let s0 = sum_of(0u, pair, channel);
      let of_power = 2.0 * times(times(c, b_bar), sum_of(2u, pair, channel));
      let of_b = 2.0 * times(c, s0);
      let of_c = times(b_bar, s0);`;

const SUMS_OF_SCAN = /* wgsl */ `
      let of_power = sum_of(0u, pair, channel);
      let of_b = sum_of(2u, pair, channel);
      let of_c = sum_of(4u, pair, channel);`;
