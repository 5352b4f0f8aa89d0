// The zero-order hold of S4D's parameters, and its chain rule: in float64, a channel an item. See src/ops/s4d-kernel/README.md.
import { nextItem } from "./runtime";

/** Phases in turns, as fixed-point numbers of 64 bits: whole turns fall out at the top. */
const TURN: f64 = 18446744073709551616.0;
const TWO_PI: f64 = 6.283185307179586;

/** Planes of the discrete parameters, each [pairs, padded channels]: float32, but for the phase of ABar (two u32). */
export const DECAY: i32 = 0;
export const PHASE_HIGH: i32 = 1;
export const PHASE_LOW: i32 = 2;
export const A_BAR: i32 = 3;
export const B_BAR: i32 = 5;
export const C: i32 = 7;
export const PLANES: i32 = 9;

/** Planes of the sums over time, real and imaginary; a row of `padded channels` for D stands behind them. */
export const OF_POWER: i32 = 0;
export const OF_B: i32 = 2;
export const OF_C: i32 = 4;
export const SUM_PLANES: i32 = 6;

/** Where parameters lie, and their discrete form: what all kernels of S4D begin their arguments with. */
@unmanaged
export class S4dArgs {
  logDt: u32;
  AReal: u32;
  ARealStride: u32;
  AImag: u32;
  AImagStride: u32;
  C: u32;
  CStride: u32;
  channels: i32;
  pairs: i32;
  /** [PLANES, padded pairs, padded channels]. */
  discrete: u32;
}

/** Channels rounded up to whole vectors. */
// @ts-ignore: decorator
@inline
export function paddedChannels(s: S4dArgs): i32 {
  return (s.channels + 3) & ~3;
}

/** Pairs rounded up to an even number: two at a time hide each other's latency. */
// @ts-ignore: decorator
@inline
export function paddedPairs(s: S4dArgs): i32 {
  return (s.pairs + 1) & ~1;
}

/** Address of the vector of channels from `channel` on in a plane of the discrete parameters. */
// @ts-ignore: decorator
@inline
export function discreteAt(s: S4dArgs, plane: i32, pair: i32, channel: i32): usize {
  return <usize>s.discrete + ((<usize>((plane * paddedPairs(s) + pair) * paddedChannels(s) + channel)) << 2);
}

/** The same in the sums of part `part`. */
// @ts-ignore: decorator
@inline
export function sumAt(s: S4dArgs, sums: u32, part: i32, plane: i32, pair: i32, channel: i32): usize {
  const rows = SUM_PLANES * paddedPairs(s) + 1;
  const row = part * rows + plane * paddedPairs(s) + pair;
  return <usize>sums + ((<usize>row * <usize>paddedChannels(s) + <usize>channel) << 2);
}

/** args: S4dArgs. Channels and pairs that there are not count as zeros. */
export function s4dDiscretize(args: usize): void {
  const s = changetype<S4dArgs>(args);
  const channels = paddedChannels(s);
  const pairs = paddedPairs(s);
  for (let channel = nextItem(); channel < channels; channel = nextItem())
    for (let pair = 0; pair < pairs; pair++) {
      if (channel < s.channels && pair < s.pairs) discretize(s, channel, pair);
      else for (let plane = 0; plane < PLANES; plane++) store<f32>(discreteAt(s, plane, pair, channel), 0);
    }
}

/** dt, A, dt A, ABar and BBar of a pair in float64. */
let dt: f64 = 0, aRe: f64 = 0, aIm: f64 = 0, dtARe: f64 = 0, dtAIm: f64 = 0;
let aBarRe: f64 = 0, aBarIm: f64 = 0, bBarRe: f64 = 0, bBarIm: f64 = 0;

function hold(s: S4dArgs, channel: i32, pair: i32): void {
  dt = Math.exp(<f64>load<f32>(<usize>s.logDt + ((<usize>channel) << 2)));
  aRe = -Math.exp(<f64>load<f32>(element(s.AReal, s.ARealStride, channel, pair)));
  aIm = <f64>load<f32>(element(s.AImag, s.AImagStride, channel, pair));
  dtARe = dt * aRe;
  dtAIm = dt * aIm;
  const size = Math.exp(dtARe);
  aBarRe = size * Math.cos(dtAIm);
  aBarIm = size * Math.sin(dtAIm);
  const half = Math.sin(dtAIm / 2);
  const lessRe = Math.expm1(dtARe) * Math.cos(dtAIm) - 2 * half * half;
  const square = aRe * aRe + aIm * aIm;
  bBarRe = (lessRe * aRe + aBarIm * aIm) / square;
  bBarIm = (aBarIm * aRe - lessRe * aIm) / square;
}

function discretize(s: S4dArgs, channel: i32, pair: i32): void {
  hold(s, channel, pair);
  const turns = dtAIm / TWO_PI;
  const phase = <u64>Math.min((turns - Math.floor(turns)) * TURN, TURN - 4096);
  store<f32>(discreteAt(s, DECAY, pair, channel), <f32>dtARe);
  store<u32>(discreteAt(s, PHASE_HIGH, pair, channel), <u32>(phase >> 32));
  store<u32>(discreteAt(s, PHASE_LOW, pair, channel), <u32>phase);
  store<f32>(discreteAt(s, A_BAR, pair, channel), <f32>aBarRe);
  store<f32>(discreteAt(s, A_BAR + 1, pair, channel), <f32>aBarIm);
  store<f32>(discreteAt(s, B_BAR, pair, channel), <f32>bBarRe);
  store<f32>(discreteAt(s, B_BAR + 1, pair, channel), <f32>bBarIm);
  store<f32>(discreteAt(s, C, pair, channel), load<f32>(element(s.C, s.CStride, channel, 2 * pair)));
  store<f32>(discreteAt(s, C + 1, pair, channel), load<f32>(element(s.C, s.CStride, channel, 2 * pair + 1)));
}

/** What {@link s4dGradients} takes beside. An address of 0: not wanted. */
@unmanaged
export class S4dGradientArgs extends S4dArgs {
  /** [parts, SUM_PLANES * padded pairs + 1, padded channels]. */
  sums: u32;
  parts: i32;
  gradLogDt: u32;
  gradAReal: u32;
  gradARealStride: u32;
  gradAImag: u32;
  gradAImagStride: u32;
  gradC: u32;
  gradCStride: u32;
  gradD: u32;
}

/** args: S4dGradientArgs. Adds up the parts in their order, and takes the sums through the zero-order hold. */
export function s4dGradients(args: usize): void {
  const s = changetype<S4dGradientArgs>(args);
  for (let channel = nextItem(); channel < s.channels; channel = nextItem()) {
    let ofLogDt: f64 = 0;
    for (let pair = 0; pair < s.pairs; pair++) ofLogDt += addPair(s, channel, pair);
    if (s.gradLogDt) addTo(<usize>s.gradLogDt + ((<usize>channel) << 2), ofLogDt);
    if (s.gradD) addTo(<usize>s.gradD + ((<usize>channel) << 2), total(s, SUM_PLANES, 0, channel));
  }
}

/** Adds the gradients of a pair. @returns its part of the gradient of logDt */
function addPair(s: S4dGradientArgs, channel: i32, pair: i32): f64 {
  hold(s, channel, pair);
  const bRe = total(s, OF_B, pair, channel), bIm = total(s, OF_B + 1, pair, channel);
  const square = aRe * aRe + aIm * aIm;
  // ofB / A.
  const re = (bRe * aRe + bIm * aIm) / square, im = (bIm * aRe - bRe * aIm) / square;
  const pRe = total(s, OF_POWER, pair, channel) + re * aBarRe - im * aBarIm;
  const pIm = total(s, OF_POWER + 1, pair, channel) + re * aBarIm + im * aBarRe;
  if (s.gradAReal)
    addTo(element(s.gradAReal, s.gradARealStride, channel, pair), (pRe * dt - (re * bBarRe - im * bBarIm)) * aRe);
  if (s.gradAImag)
    addTo(element(s.gradAImag, s.gradAImagStride, channel, pair), -(pIm * dt - (re * bBarIm + im * bBarRe)));
  if (s.gradC) {
    addTo(element(s.gradC, s.gradCStride, channel, 2 * pair), 2 * total(s, OF_C, pair, channel));
    addTo(element(s.gradC, s.gradCStride, channel, 2 * pair + 1), -2 * total(s, OF_C + 1, pair, channel));
  }
  return pRe * dtARe - pIm * dtAIm;
}

function total(s: S4dGradientArgs, plane: i32, pair: i32, channel: i32): f64 {
  let sum: f64 = 0;
  for (let part = 0; part < s.parts; part++) sum += <f64>load<f32>(sumAt(s, s.sums, part, plane, pair, channel));
  return sum;
}

// @ts-ignore: decorator
@inline
function element(address: u32, stride: u32, row: i32, column: i32): usize {
  return <usize>address + ((<usize>row * stride + <usize>column) << 2);
}

// @ts-ignore: decorator
@inline
function addTo(address: usize, value: f64): void {
  store<f32>(address, <f32>(<f64>load<f32>(address) + value));
}
