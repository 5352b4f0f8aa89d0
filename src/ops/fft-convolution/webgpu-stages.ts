// WGSL of the transforms in workgroup memory: natural order in, bit-reversed order out, and back, in place; products of
// spectra in that order. The same scheme as kernels/assembly/fft.ts; derivation in README.md.
import { CIRCLE, COMPLEX } from "../webgpu-complex.ts";

/** Threads of a workgroup. */
export const THREADS = 256;

/** A transform of `size` points (a power of two, at least 4) of `channels` channels, `rows` of them beside each other. */
export type StagesSpec = {
  size: number;
  rows: number;
  channels: number;
  /** Whether every sixteenth element is followed by a gap, so that strides of sixteen do not meet in one memory bank. */
  isPadded: boolean;
};

/**
 * `data[pad((row * SIZE + point) * CHANNELS + channel)]`, and `transform` and `transform_back` of all rows. The text behind it
 * declares `block_of(row)`: which block of a larger transform a row is (0: it is all of it).
 */
export function stagesText({ size, rows, channels, isPadded }: StagesSpec): string {
  const count = size * rows * channels;
  const passes = passesOf(size);
  const runs = (name: string, all: readonly Pass[]): string =>
    all
      .map(({ radix, shift }) => passText(`${name}${radix}`, count / radix, radix === 2 ? "" : `, ${shift}u`))
      .join("");
  return /* wgsl */ `${COMPLEX}${CIRCLE}
const SIZE = ${size}u;
const ROWS = ${rows}u;
const CHANNELS = ${channels}u;
const THREADS = ${THREADS}u;
const POINTS = ${size * rows}u;
var<workgroup> data: array<vec2f, ${isPadded ? count + (count >> 4) : count}>;
fn pad(i: u32) -> u32 { return ${isPadded ? "i + (i >> 4u)" : "i"}; }

/** exp(-πi v) of a block, where v are the bits of its number behind the point, reversed. */
fn twiddle(block: u32) -> vec2f { return circle(0u - (reverseBits(block) >> 1u)); }
${passes.some(({ radix }) => radix === 16) ? radix16Text(size, channels) : ""}
${passes.some(({ radix }) => radix === 4) ? radix4Text(size, channels) : ""}
${passes.some(({ radix }) => radix === 2) ? radix2Text(size, channels) : ""}
fn transform(thread: u32) {${runs("forward", passes)}
}

fn transform_back(thread: u32) {${runs("backward", passes.toReversed())}
}`;
}

/** A pass over workgroup memory: a radix, and the binary logarithm of how far apart its points lie. */
interface Pass {
  readonly radix: 16 | 4 | 2;
  readonly shift: number;
}

/** As many passes of radix 16 as there are, then one of 4 and one of 2 where stages are left. */
function passesOf(size: number): Pass[] {
  const passes: Pass[] = [];
  let left = Math.log2(size);
  for (const radix of [16, 4, 2] as const)
    for (const stages = Math.log2(radix); left >= stages; left -= stages) passes.push({ radix, shift: left - stages });
  return passes;
}

function passText(name: string, items: number, shift: string): string {
  return /* wgsl */ `
  for (var item = thread; item < ${items}u; item += THREADS) { ${name}(item${shift}); }
  workgroupBarrier();`;
}

/** Four stages of radix 2 at once, in registers, on sixteenths of `1 << shift` points, there and back. */
function radix16Text(size: number, channels: number): string {
  const place = /* wgsl */ `
  let channel = item % CHANNELS;
  let place = (item / CHANNELS) % ${size / 16}u;
  let row = item / ${(size / 16) * channels}u;
  let block = place >> shift;
  let first = (row * SIZE + (block << (shift + 4u)) + (place & ((1u << shift) - 1u))) * CHANNELS + channel;
  let next = CHANNELS << shift;
  // The twiddle of the second two stages' first block; its fourth power is that of the first two.
  let u = twiddle(8u * (block_of(row) * (${size / 16}u >> shift) + block));
  let uu = times(u, u);
  let v = times(uu, uu);
  let w = times(v, v);
  var a: array<vec2f, 16>;
  for (var k = 0u; k < 16u; k++) { a[k] = data[pad(first + k * next)]; }`;
  const store = /* wgsl */ `
  for (var k = 0u; k < 16u; k++) { data[pad(first + k * next)] = a[k]; }`;
  const second = (way: string): string =>
    ["u", ...ROOTS.map(([re, im]) => `times(u, vec2f(${re}, ${im}))`)]
      .map((root, j) => `\n  let u${j} = ${root};\n  ${way}(&a, ${4 * j}u, 1u, u${j}, times(u${j}, u${j}));`)
      .join("");
  return /* wgsl */ `
fn there4(a: ptr<function, array<vec2f, 16>>, i: u32, step: u32, v: vec2f, w: vec2f) {
  let p = (*a)[i];
  let q = (*a)[i + step];
  let wr = times(w, (*a)[i + 2u * step]);
  let ws = times(w, (*a)[i + 3u * step]);
  let vp = times(v, q + ws);
  let vq = times(v, q - ws);
  // The twiddle of the odd block is -i times that of the even one.
  let turned = vec2f(vq.y, -vq.x);
  (*a)[i] = p + wr + vp;
  (*a)[i + step] = p + wr - vp;
  (*a)[i + 2u * step] = p - wr + turned;
  (*a)[i + 3u * step] = p - wr - turned;
}

fn back4(a: ptr<function, array<vec2f, 16>>, i: u32, step: u32, v: vec2f, w: vec2f) {
  let p = (*a)[i];
  let q = (*a)[i + step];
  let r = (*a)[i + 2u * step];
  let s = (*a)[i + 3u * step];
  let x = times_conj(p - q, v);
  let y = times_conj(vec2f(s.y - r.y, r.x - s.x), v);
  (*a)[i] = p + q + (r + s);
  (*a)[i + step] = x + y;
  (*a)[i + 2u * step] = times_conj(p + q - (r + s), w);
  (*a)[i + 3u * step] = times_conj(x - y, w);
}

fn forward16(item: u32, shift: u32) {${place}
  for (var k = 0u; k < 4u; k++) { there4(&a, k, 4u, v, w); }${second("there4")}${store}
}

fn backward16(item: u32, shift: u32) {${place}${second("back4")}
  for (var k = 0u; k < 4u; k++) { back4(&a, k, 4u, v, w); }${store}
}
`;
}

/** Twiddles of blocks 1, 2 and 3 of four: an eighth, a sixteenth and three sixteenths of a turn back. */
const ROOTS: readonly (readonly [string, string])[] = [
  ["0.70710678", "-0.70710678"],
  ["0.92387953", "-0.38268343"],
  ["0.38268343", "-0.92387953"],
];

/** Two stages of radix 2 at once, on quarters of `1 << shift` points, there and back. */
function radix4Text(size: number, channels: number): string {
  return /* wgsl */ `
fn forward4(item: u32, shift: u32) {
  let channel = item % CHANNELS;
  let place = (item / CHANNELS) % ${size / 4}u;
  let row = item / ${(size / 4) * channels}u;
  let block = place >> shift;
  let first = (row * SIZE + (block << (shift + 2u)) + (place & ((1u << shift) - 1u))) * CHANNELS + channel;
  let next = CHANNELS << shift;
  let v = twiddle(2u * (block_of(row) * (${size / 4}u >> shift) + block));
  let w = times(v, v);
  let a = data[pad(first)];
  let b = data[pad(first + next)];
  let wc = times(w, data[pad(first + 2u * next)]);
  let wd = times(w, data[pad(first + 3u * next)]);
  let vp = times(v, b + wd);
  let vq = times(v, b - wd);
  // The twiddle of the odd block is -i times that of the even one.
  let turned = vec2f(vq.y, -vq.x);
  data[pad(first)] = a + wc + vp;
  data[pad(first + next)] = a + wc - vp;
  data[pad(first + 2u * next)] = a - wc + turned;
  data[pad(first + 3u * next)] = a - wc - turned;
}

fn backward4(item: u32, shift: u32) {
  let channel = item % CHANNELS;
  let place = (item / CHANNELS) % ${size / 4}u;
  let row = item / ${(size / 4) * channels}u;
  let block = place >> shift;
  let first = (row * SIZE + (block << (shift + 2u)) + (place & ((1u << shift) - 1u))) * CHANNELS + channel;
  let next = CHANNELS << shift;
  let v = twiddle(2u * (block_of(row) * (${size / 4}u >> shift) + block));
  let w = times(v, v);
  let a = data[pad(first)];
  let b = data[pad(first + next)];
  let c = data[pad(first + 2u * next)];
  let d = data[pad(first + 3u * next)];
  let p = times_conj(a - b, v);
  let q = times_conj(vec2f(d.y - c.y, c.x - d.x), v);
  data[pad(first)] = a + b + (c + d);
  data[pad(first + next)] = p + q;
  data[pad(first + 2u * next)] = times_conj(a + b - (c + d), w);
  data[pad(first + 3u * next)] = times_conj(p - q, w);
}`;
}

/** The stage of radix 2 that an odd number of stages has, on neighbours. */
function radix2Text(size: number, channels: number): string {
  return /* wgsl */ `
fn forward2(item: u32) {
  let pair = (item / CHANNELS) % ${size / 2}u;
  let row = item / ${(size / 2) * channels}u;
  let first = (row * SIZE + 2u * pair) * CHANNELS + item % CHANNELS;
  let a = data[pad(first)];
  let b = times(twiddle(block_of(row) * ${size / 2}u + pair), data[pad(first + CHANNELS)]);
  data[pad(first)] = a + b;
  data[pad(first + CHANNELS)] = a - b;
}

fn backward2(item: u32) {
  let pair = (item / CHANNELS) % ${size / 2}u;
  let row = item / ${(size / 2) * channels}u;
  let first = (row * SIZE + 2u * pair) * CHANNELS + item % CHANNELS;
  let a = data[pad(first)];
  let b = data[pad(first + CHANNELS)];
  data[pad(first)] = a + b;
  data[pad(first + CHANNELS)] = times_conj(a - b, twiddle(block_of(row) * ${size / 2}u + pair));
}
`;
}

/**
 * WGSL: `pair_at(i)`, the i-th of the pairs of places in bit-reversed order that stand for frequencies k and -k. Places 0
 * and 1 stand for themselves, and come together as i = 0.
 */
export const PAIRS: string = /* wgsl */ `
fn pair_at(i: u32) -> vec2u {
  if (i == 0u) { return vec2u(0u, 1u); }
  let half = 1u << firstLeadingBit(i);
  return vec2u(half + i, 5u * half - 1u - i);
}`;

/**
 * WGSL: `product`, what place p and its partner q hold of the convolution of x and h (or the correlation), with the factor
 * 1 / size of the way back. Sequences are real, two steps to a complex number.
 */
export const PRODUCTS: string = /* wgsl */ `
struct Pair { p: vec2f, q: vec2f }

/** Places p and its partner of x and h; \`place\` is that of p in the whole transform. */
fn product(x: Pair, h: Pair, place: u32) -> Pair {
  let v = circle(0u - reverseBits(place));
  let x_even = vec2f(x.p.x + x.q.x, x.p.y - x.q.y);
  let x_odd = vec2f(x.p.y + x.q.y, x.q.x - x.p.x);
  let h_even = vec2f(h.p.x + h.q.x, h.p.y - h.q.y);
  let h_odd = vec2f(h.p.y + h.q.y, h.q.x - h.p.x);
  var even: vec2f;
  var odd: vec2f;
  if (IS_CORRELATION) {
    even = times_conj(x_even, h_even) + times_conj(x_odd, h_odd);
    odd = times_conj(x_odd, h_even) + times_conj(times_conj(x_even, h_odd), v);
  } else {
    even = times(x_even, h_even) + times(v, times(x_odd, h_odd));
    odd = times(x_even, h_odd) + times(x_odd, h_even);
  }
  let scale = 0.25 / f32(params.total);
  even *= scale;
  odd *= scale;
  return Pair(vec2f(even.x - odd.y, even.y + odd.x), vec2f(even.x + odd.y, odd.x - even.y));
}`;
