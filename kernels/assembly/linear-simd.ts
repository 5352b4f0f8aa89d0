// The instruction in which the builds differ: RELAXED, given by kernels/build.js, is 1 with relaxed SIMD, else 0.

/** a * b + c by lanes of float32: rounded once in the relaxed build, twice in the other. */
// @ts-ignore: decorator
@inline
export function mulAdd(a: v128, b: v128, c: v128): v128 {
  // @ts-ignore: --use RELAXED
  if (RELAXED) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}
