// Pieces of WGSL that the kernels of the selective scan share: reading and writing four elements at once, softplus, exp2.

/** Text once for each of 0 .. count - 1: loops that the kernels have unrolled. */
export function repeat(count: number, text: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => text(i)).join("");
}

/** Element type of a buffer that is read or written four elements at once, if it may be. */
export function quadType(type: string, wide: boolean): string {
  return wide ? `vec4<${type}>` : type;
}

/**
 * `load_NAME(row, column, count)`: four elements of a row, zeros beyond the first `count`. With `wide`, rows and columns
 * lie at multiples of 4 and `count` is at least 4.
 */
export function loadQuad(name: string, wide: boolean): string {
  const at = `params.${name}_at + row * params.${name}_stride + column`;
  if (wide)
    return /* wgsl */ `
fn load_${name}(row: u32, column: u32, count: u32) -> vec4f {
  return vec4f(${name}[(${at}) / 4u]);
}`;
  return /* wgsl */ `
fn load_${name}(row: u32, column: u32, count: u32) -> vec4f {
  let at = ${at};
  var quad = vec4f();
  if (count > 0u) { quad.x = f32(${name}[at]); }
  if (count > 1u) { quad.y = f32(${name}[at + 1u]); }
  if (count > 2u) { quad.z = f32(${name}[at + 2u]); }
  if (count > 3u) { quad.w = f32(${name}[at + 3u]); }
  return quad;
}`;
}

/** `store_NAME(row, column, count, quad)`: the counterpart of {@link loadQuad}; with `adds` to what is there. */
export function storeQuad(name: string, type: string, wide: boolean, adds = false): string {
  const at = `params.${name}_at + row * params.${name}_stride + column`;
  if (wide)
    return /* wgsl */ `
fn store_${name}(row: u32, column: u32, count: u32, quad: vec4f) {
  let at = (${at}) / 4u;
  ${name}[at] = vec4<${type}>(${adds ? `vec4f(${name}[at]) + ` : ""}quad);
}`;
  const element = (i: number, part: string): string => /* wgsl */ `
  if (count > ${i}u) { ${name}[at + ${i}u] = ${type}(${adds ? `f32(${name}[at + ${i}u]) + ` : ""}quad.${part}); }`;
  return /* wgsl */ `
fn store_${name}(row: u32, column: u32, count: u32, quad: vec4f) {
  let at = ${at};${["x", "y", "z", "w"].map((part, i) => element(i, part)).join("")}
}`;
}

/**
 * `sigmoid(v)` and, `softplus(v)` = max(v, 0) + log(1 + e), e = exp(-|v|). log(1 + e) is 2 artanh(e / (2 + e)), by its
 * series: relative error 3e-8 for every e, where log(1 + e) would lose all digits of a small e.
 */
export const ACTIVATIONS = /* wgsl */ `
fn sigmoid(v: vec4f) -> vec4f {
  return 1.0 / (1.0 + exp(min(-v, vec4f(80.0))));
}
fn softplus(v: vec4f) -> vec4f {
  let e = exp(max(-abs(v), vec4f(-87.0)));
  let s = e / (2.0 + e);
  let q = s * s;
  let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0))))));
  return max(v, vec4f()) + 2.0 * s * series;
}`;

/**
 * `decay(v)`: 2^v for four states. The special-function units give an eighth as many results as there are products; the
 * last `polynomial` of the four are computed by products instead: v = k + f, |f| <= 1/2, by adding 1.5 * 2^23, a
 * polynomial for 2^f (relative error 2e-7), k added to the exponent.
 */
export function decayFunction(polynomial: number): string {
  if (polynomial === 0)
    return /* wgsl */ `
fn decay(v: vec4f) -> vec4f { return exp2(v); }`;
  const parts = ["x", "y", "z", "w"].map((part, i) =>
    i < 4 - polynomial ? `exp2(v.${part})` : `exp2_by_products(v.${part})`,
  );
  return /* wgsl */ `
fn exp2_by_products(v: f32) -> f32 {
  let bits = bitcast<u32>(max(v, -126.0) + 12582912.0);
  let f = max(v, -126.0) - (bitcast<f32>(bits) - 12582912.0);
  let p = 1.0 + f * (0.693147182 + f * (0.24022235 + f * (0.0555033013 + f * (0.00967186783 + f * 0.00133996189))));
  return bitcast<f32>(bitcast<u32>(p) + (bits << 23u));
}
fn decay(v: vec4f) -> vec4f { return vec4f(${parts.join(", ")}); }`;
}
