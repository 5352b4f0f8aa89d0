// WGSL for complex numbers (vec2f), and for phases as fixed-point fractions of a turn, where whole turns fall out.

export const COMPLEX: string = /* wgsl */ `
fn times(a: vec2f, b: vec2f) -> vec2f { return vec2f(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }

/** a conj(b). */
fn times_conj(a: vec2f, b: vec2f) -> vec2f { return vec2f(a.x * b.x + a.y * b.y, a.y * b.x - a.x * b.y); }`;

/**
 * Cosine and sine of turns · 2π / 2^32, to 1e-7: the nearest quarter, and Taylor's series of the rest, at most 1/8 turn.
 * WGSL promises no more than 2^-11 for its own.
 */
export const CIRCLE: string = /* wgsl */ `
fn circle(turns: u32) -> vec2f {
  let quarter = (turns + 0x20000000u) >> 30u;
  let a = f32(bitcast<i32>(turns - (quarter << 30u))) * 1.4629180792671596e-9;
  let point = near_circle(a);
  let turned = select(point, vec2f(-point.y, point.x), (quarter & 1u) == 1u);
  return select(turned, -turned, (quarter & 2u) == 2u);
}

/** Cosine and sine of an angle of at most π/4. */
fn near_circle(a: f32) -> vec2f {
  let aa = a * a;
  let s = a + a * aa * (-0.16666667 + aa * (8.3333333e-3 + aa * (-1.9841270e-4 + aa * 2.7557319e-6)));
  let c = 1.0 + aa * (-0.5 + aa * (4.1666667e-2 + aa * (-1.3888889e-3 + aa * 2.4801587e-5)));
  return vec2f(c, s);
}`;

/** The upper 32 bits of a product. */
export const MUL_HIGH: string = /* wgsl */ `
fn mul_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let one = (a & 0xffffu) * (b >> 16u);
  let two = (a >> 16u) * (b & 0xffffu);
  let middle = (low >> 16u) + (one & 0xffffu) + (two & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (one >> 16u) + (two >> 16u) + (middle >> 16u);
}`;
