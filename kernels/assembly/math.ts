// Elementary functions on four float32 lanes, inlined into the kernels, and the same on one number for tails.
// Range reduction after Cody and Waite; polynomials are minimax fits on the reduced range (Lawson's iteration).
//
// One number is computed as lane 0 of a vector, so that a tail has the same bits as the lanes before it.
// Clamping uses pmin/pmax with the argument first, which pass a NaN on and are one instruction on x86.

/** 1.5 * 2^23: adding it rounds a float to a whole number, which then stands in the low bits. */
const ROUND: f32 = 12582912;
const LOG2_E: f32 = 1.44269504088896341;
/** ln 2 in two parts; the first has few enough bits that its product with a whole number is exact. */
const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = -2.12194440e-4;

const TABLE: usize = memory.data<f32>([ROUND, 0.0013264749431982636, 0.009671512059867382, 0.05550733581185341, 0.24022242426872253, 0.6931470036506653, 1, -126, -88.029694, 88.37, LOG2_E, ROUND + 127, LN2_LOW, LN2_HIGH, 0.008368716575205326, 0.04166838899254799, 0.1666652113199234, 0.4999999403953552, 0.0013814589474350214, 2, 0.28011998534202576, 0.28001803159713745, 0.4002152681350708, 0.666664183139801, 0], 16);

// @ts-ignore: decorator
@inline
function constant(index: usize): v128 {
  return v128.load32_splat(TABLE + (index << 2));
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

/** Smaller of two lanes; a NaN in a is passed on. */
// @ts-ignore: decorator
@inline
export function min4(a: v128, b: v128): v128 {
  return f32x4.pmin(a, b);
}

/** Larger of two lanes; a NaN in a is passed on. */
// @ts-ignore: decorator
@inline
export function max4(a: v128, b: v128): v128 {
  return f32x4.pmax(a, b);
}

/** |x|. */
// @ts-ignore: decorator
@inline
export function abs4(x: v128): v128 {
  return v128.and(x, i32x4.splat(0x7fffffff));
}

/**
 * 2^x for x < 128, relative error 2e-7 above 2^-126; exactly 0 for x <= -127, and close to 2^x between.
 * The scan's exponential: x is dt * log2(e) * A, which is negative. Its large relative error of x costs nothing, because
 * 2^x is small there. The lower clamp is an unsigned minimum of bit patterns: that of -127 is above those of all smaller
 * magnitudes. At the clamp the polynomial is exactly 1, so that taking 127 from its exponent leaves the bits of 0.
 */
// @ts-ignore: decorator
@inline
export function exp2(x: v128): v128 {
  const t = i32x4.min_u(x, i32x4.splat(0xc2fe0000));
  const k = f32x4.add(t, constant(0));
  const f = f32x4.sub(t, f32x4.sub(k, constant(0)));
  const ff = f32x4.mul(f, f);
  const high = fma(f, constant(1), constant(2));
  const middle = fma(f, constant(3), constant(4));
  const low = fma(f, constant(5), constant(6));
  const p = fma(fma(high, ff, middle), ff, low);
  return i32x4.add(p, i32x4.shl(k, 23));
}

/**
 * 2^(a * b), relative error 2e-7, for products between -126 and 127; without meaning outside. For loops that compute many:
 * V8 makes a vector constant anew wherever it is used, so the loop loads them ({@link EXP2_CONSTANTS}) into variables.
 */
// @ts-ignore: decorator
@inline
export function exp2Product(
  a: v128, b: v128, round: v128, c1: v128, c2: v128, c3: v128, c4: v128, c5: v128, one: v128,
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
  return i32x4.add(p, i32x4.shl(k, 23));
}

/** The constants of {@link exp2Product} in the order of its arguments, 4 bytes each. */
export const EXP2_CONSTANTS: usize = memory.data<f32>([
  ROUND, 0.6931470036506653, 0.24022242426872253, 0.05550733581185341, 0.009671512059867382, 0.0013264749431982636, 1,
], 16);

/** Lanes of {@link exp2Product} set to 0 where the product is below -126. A NaN in a or b stays NaN. */
// @ts-ignore: decorator
@inline
export function underflow(power: v128, a: v128, b: v128): v128 {
  return v128.andnot(power, f32x4.lt(f32x4.mul(a, b), constant(7)));
}

/** e^x, relative error 1.2e-7. Exactly 0 below -88.03; stays at 2.4e38 above 88.37; NaN stays NaN. */
// @ts-ignore: decorator
@inline
export function exp(x: v128): v128 {
  const a = min4(max4(x, constant(8)), constant(9));
  // The low bits hold k + 127, which shifted left are the bits of 2^k; 0 when k = -127.
  const biased = fma(a, constant(10), constant(11));
  const k = f32x4.sub(biased, constant(11));
  const r = fnma(k, constant(12), fnma(k, constant(13), a));
  const rr = f32x4.mul(r, r);
  const high = fma(r, constant(14), constant(15));
  const middle = fma(r, constant(16), constant(17));
  const q = fma(fma(rr, constant(18), high), rr, middle);
  const p = fma(q, rr, f32x4.add(r, constant(6)));
  return f32x4.mul(p, i32x4.shl(biased, 23));
}

/** ln(1 + u) for u in 0..1, relative error 2e-7: 2 artanh(s) with s = u / (2 + u). */
// @ts-ignore: decorator
@inline
export function log1p(u: v128): v128 {
  const s = f32x4.div(u, f32x4.add(u, constant(19)));
  const w = f32x4.mul(s, s);
  const ww = f32x4.mul(w, w);
  const high = fma(w, constant(20), constant(21));
  const low = fma(w, constant(22), constant(23));
  const p = fma(high, ww, low);
  return fma(f32x4.mul(p, w), s, f32x4.add(s, s));
}

/** 1 / (1 + e^-x). */
// @ts-ignore: decorator
@inline
export function sigmoid(x: v128): v128 {
  return f32x4.div(constant(6), f32x4.add(constant(6), exp(f32x4.neg(x))));
}

/** x sigmoid(x). */
// @ts-ignore: decorator
@inline
export function silu(x: v128): v128 {
  return f32x4.div(x, f32x4.add(constant(6), exp(f32x4.neg(x))));
}

/** ln(1 + e^x), as max(x, 0) + ln(1 + e^-|x|), which neither overflows nor cancels. */
// @ts-ignore: decorator
@inline
export function softplus(x: v128): v128 {
  return softplusFrom(x, softplusPower(x));
}

/** The first half of {@link softplus}, e^-|x|. A loop over halves overlaps more of its long chain than one over the whole. */
// @ts-ignore: decorator
@inline
export function softplusPower(x: v128): v128 {
  return exp(f32x4.neg(f32x4.abs(x)));
}

/** The second half of {@link softplus}, from e^-|x|. */
// @ts-ignore: decorator
@inline
export function softplusFrom(x: v128, power: v128): v128 {
  return f32x4.add(max4(x, f32x4.splat(0)), log1p(power));
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
