// Elementary functions on four float32 lanes, inlined into the kernels, and the same on one number for tails.
// Range reduction after Cody and Waite; polynomials are minimax fits on the reduced range (Lawson's iteration).
//
// One number is computed as lane 0 of a vector, so that a tail has the same bits as the lanes before it.
// Clamping uses pmin/pmax with the argument first, which pass a NaN on and are one instruction on x86.
// Constants are splatted from memory, one instruction: V8 makes a constant vector anew, by three, wherever it is used.

/** 1.5 * 2^23: adding it rounds a float to a whole number, which then stands in the low bits. */
const ROUND: f32 = 12582912;
const LOG2_E: f32 = 1.44269504088896341;

/** The number `index` of a table, in all lanes. */
// @ts-ignore: decorator
@inline
function entry(table: usize, index: usize): v128 {
  return v128.load32_splat(table + (index << 2));
}

/** a * b + c: one rounding where the relaxed build runs on hardware with FMA, else two. */
// @ts-ignore: decorator
@inline
export function fma(a: v128, b: v128, c: v128): v128 {
  // @ts-ignore: RELAXED is given by the compiler's --use, so only one branch is compiled
  if (RELAXED) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

/** c - a * b. */
// @ts-ignore: decorator
@inline
export function fnma(a: v128, b: v128, c: v128): v128 {
  // @ts-ignore: see fma
  if (RELAXED) return f32x4.relaxed_nmadd(a, b, c);
  return f32x4.sub(c, f32x4.mul(a, b));
}

/** What {@link exp2Product} needs, in the order of its arguments, 4 bytes each. */
export const EXP2_CONSTANTS: usize = memory.data<f32>([
  ROUND, 0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512059867382, 0.0013264749431982636, 1, ROUND - 126,
], 16);

/**
 * 2^(a * b), relative error 2e-7. With `masks`, a constant where this is inlined, exactly 0 where the product is below
 * -126.5; without, the product must lie between -126 and 127. A loop loads the constants into variables before it.
 *
 * The product is not rounded where there is FMA, so that a may be any number and b a scale such as log2(e).
 */
// @ts-ignore: decorator
@inline
export function exp2Product(
  masks: bool, a: v128, b: v128,
  round: v128, c1: v128, c2: v128, c3: v128, c4: v128, c5: v128, one: v128, least: v128,
): v128 {
  let k: v128, f: v128;
  // @ts-ignore: see fma
  if (RELAXED) {
    k = fma(a, b, round);
    f = fma(a, b, f32x4.sub(round, k));
  } else {
    const t = f32x4.mul(a, b);
    k = f32x4.add(t, round);
    f = f32x4.sub(t, f32x4.sub(k, round));
  }
  let p = fma(f, c5, c4);
  p = fma(p, f, c3);
  p = fma(p, f, c2);
  p = fma(p, f, c1);
  p = fma(p, f, one);
  const power = i32x4.add(p, i32x4.shl(k, 23));
  return masks ? v128.andnot(power, f32x4.lt(k, least)) : power;
}

/** Clamps, log2(e), ROUND + 127, ln 2 in two parts (the first times a whole number is exact), coefficients 2 to 6, 1. */
const EXP_CONSTANTS: usize = memory.data<f32>([
  -88.029694, 88.37, LOG2_E, ROUND + 127, 0.693359375, -2.12194440e-4,
  0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368716575205326, 0.0013814589474350214, 1,
], 16);

/** e^x, relative error 1.2e-7. Exactly 0 below -88.03; stays at 2.4e38 above 88.37; NaN stays NaN. */
// @ts-ignore: decorator
@inline
export function exp(x: v128): v128 {
  const a = f32x4.pmin(f32x4.pmax(x, entry(EXP_CONSTANTS, 0)), entry(EXP_CONSTANTS, 1));
  // The low bits hold k + 127, which shifted left are the bits of 2^k; 0 when k = -127.
  const biased = fma(a, entry(EXP_CONSTANTS, 2), entry(EXP_CONSTANTS, 3));
  const k = f32x4.sub(biased, entry(EXP_CONSTANTS, 3));
  const r = fnma(k, entry(EXP_CONSTANTS, 5), fnma(k, entry(EXP_CONSTANTS, 4), a));
  const rr = f32x4.mul(r, r);
  const middle = fma(r, entry(EXP_CONSTANTS, 7), entry(EXP_CONSTANTS, 6));
  const high = fma(r, entry(EXP_CONSTANTS, 9), entry(EXP_CONSTANTS, 8));
  const q = fma(fma(rr, entry(EXP_CONSTANTS, 10), high), rr, middle);
  const p = fma(q, rr, f32x4.add(r, entry(EXP_CONSTANTS, 11)));
  return f32x4.mul(p, i32x4.shl(biased, 23));
}

/** What {@link log1pWith} needs, in the order of its arguments, 4 bytes each. */
export const LOG1P_CONSTANTS: usize = memory.data<f32>([0.666664183139801, 0.4002152681350708, 0.28001803159713745, 0.28011998534202576, 2], 16);

/** ln(1 + u) for u in 0..1, relative error 2e-7: 2 artanh(s) with s = u / (2 + u), odd powers of s up to the ninth. */
// @ts-ignore: decorator
@inline
export function log1pWith(u: v128, c0: v128, c1: v128, c2: v128, c3: v128, two: v128): v128 {
  const s = f32x4.div(u, f32x4.add(u, two));
  const w = f32x4.mul(s, s);
  const p = fma(fma(c3, w, c2), f32x4.mul(w, w), fma(c1, w, c0));
  return fma(f32x4.mul(p, w), s, f32x4.add(s, s));
}

/** ln(1 + u) for u in 0..1, relative error 2e-7. */
// @ts-ignore: decorator
@inline
export function log1p(u: v128): v128 {
  return log1pWith(
    u, entry(LOG1P_CONSTANTS, 0), entry(LOG1P_CONSTANTS, 1), entry(LOG1P_CONSTANTS, 2), entry(LOG1P_CONSTANTS, 3), entry(LOG1P_CONSTANTS, 4),
  );
}

/** 1 / (1 + e^-x). */
// @ts-ignore: decorator
@inline
export function sigmoid(x: v128): v128 {
  const one = entry(EXP_CONSTANTS, 11);
  return f32x4.div(one, f32x4.add(one, exp(f32x4.neg(x))));
}

/** x sigmoid(x). */
// @ts-ignore: decorator
@inline
export function silu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(entry(EXP_CONSTANTS, 11), exp(f32x4.neg(x))));
}

/** Where the polynomial ends, its coefficients from s² on, and -2. */
const TANH_CONSTANTS: usize = memory.data<f32>([
  0.625, -0.3333234190940857, 0.13308174908161163, -0.05194788798689842, 0.015195348300039768, -2,
], 16);

/** tanh(x), relative error 2e-7: near zero an odd polynomial, for there 1 - e^-2x would lose its digits. NaN stays NaN. */
// @ts-ignore: decorator
@inline
export function tanh(x: v128): v128 {
  const one = entry(EXP_CONSTANTS, 11);
  const size = f32x4.abs(x);
  const s = f32x4.mul(x, x);
  let p = fma(s, entry(TANH_CONSTANTS, 4), entry(TANH_CONSTANTS, 3));
  p = fma(p, s, entry(TANH_CONSTANTS, 2));
  p = fma(p, s, entry(TANH_CONSTANTS, 1));
  const near = fma(f32x4.mul(x, s), p, x);
  const e = exp(f32x4.mul(size, entry(TANH_CONSTANTS, 5)));
  const far = f32x4.div(f32x4.sub(one, e), f32x4.add(one, e));
  const signed = v128.bitselect(x, far, f32x4.splat(-0.0));
  return v128.bitselect(near, signed, f32x4.lt(size, entry(TANH_CONSTANTS, 0)));
}

/** ln(1 + e^x), as max(x, 0) + ln(1 + e^-|x|), which neither overflows nor cancels. */
// @ts-ignore: decorator
@inline
export function softplus(x: v128): v128 {
  return f32x4.add(f32x4.pmax(x, f32x4.splat(0)), log1p(exp(f32x4.neg(f32x4.abs(x)))));
}

/** Sum of the four lanes: (0 + 2) + (1 + 3). */
// @ts-ignore: decorator
@inline
export function sum4(x: v128): f32 {
  const pairs = f32x4.add(x, i8x16.shuffle(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/** a * b + c on one number, with the bits that {@link fma} gives a lane. */
// @ts-ignore: decorator
@inline
export function fmaScalar(a: f32, b: f32, c: f32): f32 {
  return f32x4.extract_lane(fma(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0);
}

export function expScalar(x: f32): f32 {
  return f32x4.extract_lane(exp(f32x4.splat(x)), 0);
}

export function sigmoidScalar(x: f32): f32 {
  return f32x4.extract_lane(sigmoid(f32x4.splat(x)), 0);
}

export function siluScalar(x: f32): f32 {
  return f32x4.extract_lane(silu(f32x4.splat(x)), 0);
}

export function softplusScalar(x: f32): f32 {
  return f32x4.extract_lane(softplus(f32x4.splat(x)), 0);
}
