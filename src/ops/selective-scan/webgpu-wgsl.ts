// Pieces of WGSL that the kernels of the selective scan share: reading and writing four elements at once, loops, softplus.

/** Text once for each of 0 .. count - 1: loops that the kernels have unrolled. */
export function repeat(count: number, text: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => text(i)).join("");
}

/**
 * `text` for the steps 0 .. count - 1, or back from the last: with literals for the index, or as a loop of the kernel. A
 * loop ends at the parameter `once`, which is 1, times `count`: drivers must not unroll it themselves.
 */
export function unrolled(
  isUnrolled: boolean,
  { count, name, isReversed = false }: { count: number; name: string; isReversed?: boolean },
  text: (index: string) => string,
): string {
  if (isUnrolled) return repeat(count, (i) => text(`${isReversed ? count - 1 - i : i}u`));
  const counter = `${name}_counter`;
  const index = isReversed ? `${count - 1}u - ${counter}` : counter;
  return /* wgsl */ `
  for (var ${counter} = 0u; ${counter} < ${count}u * params.once; ${counter}++) {
    let ${name} = ${index};
${text(name)}
  }`;
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
  let last = max(count, 1u) - 1u;
  let quad = vec4f(
    f32(${name}[at]), f32(${name}[at + min(1u, last)]), f32(${name}[at + min(2u, last)]), f32(${name}[at + min(3u, last)]));
  return select(vec4f(), quad, vec4u(0u, 1u, 2u, 3u) < vec4u(count));
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
  return /* wgsl */ `
fn store_${name}(row: u32, column: u32, count: u32, quad: vec4f) {
  let at = ${at};
${repeat(4, (i) => `  if (count > ${i}u) { ${name}[at + ${i}u] = ${type}(${adds ? `f32(${name}[at + ${i}u]) + ` : ""}quad[${i}]); }\n`)}}`;
}

/** End of a loop of `count` rounds, which the driver may unroll or not; see {@link unrolled}. */
export function loopEnd(isUnrolled: boolean, count: string): string {
  return isUnrolled ? count : `${count} * params.once`;
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
 * WGSL that the scans' entry points begin with: the channels and steps of the workgroup, the states of a thread, and the
 * quad that it loads and stores: four channels of one step, or of several.
 */
export const PLACES = /* wgsl */ `
  let B_group = group.x / params.group_blocks;
  let first_channel = B_group * params.group_channels + (group.x % params.group_blocks) * CHANNELS;
  let end_channel = (B_group + 1u) * params.group_channels;
  let sequence = group.z;
  let chunk = group.y;
  let first_step = chunk * params.chunk_steps;
  let end_step = min(first_step + params.chunk_steps, params.length);
  let first_row = sequence * params.length;
  let c = thread % CHANNELS;
  let state_thread = thread / CHANNELS;
  let channel = first_channel + c;
  let is_channel = channel < end_channel;
  let quad_column = (thread % (CHANNELS / 4u)) * 4u;
  let quad_step = thread / (CHANNELS / 4u);
  let quad_channel = first_channel + quad_column;
  let quad_count = select(0u, end_channel - quad_channel, quad_channel < end_channel);
  let chunk_at = ((sequence * params.chunks + chunk) * params.d_inner + channel) * STEP_VECTORS + state_thread * VECTORS;
  let bias = load_dt_bias(quad_channel, quad_count);`;
