// The fast Fourier transform of four channels at once, in float32, in place: natural order in, bit-reversed order out, and back.
// A complex number of four channels is two vectors, 32 bytes. Derivation in src/ops/fft-convolution/README.md.
import { fma, fnma } from "./math";
import { nextItem } from "./runtime";

const TWO_PI: f64 = 6.283185307179586;

/** Twiddles an item. */
const ITEM: i32 = 1 << 10;

/** args: table, size. Writes table[b] = exp(-πi v(b)) for b < size / 2, where v(b) are the bits of b behind the point, reversed. */
export function fftTable(args: usize): void {
  const table = <usize>load<u32>(args);
  const count = load<i32>(args, 4) >> 1;
  for (let item = nextItem(); item * ITEM < count; item = nextItem()) {
    const end = min(count, (item + 1) * ITEM);
    for (let b = item * ITEM; b < end; b++) {
      const angle = (<f64>reverseBits(<u32>b) / 4294967296) * (TWO_PI / 2);
      store<f32>(table + ((<usize>b) << 3), <f32>Math.cos(angle));
      store<f32>(table + ((<usize>b) << 3), <f32>-Math.sin(angle), 4);
    }
  }
}

function reverseBits(value: u32): u32 {
  let v = value;
  v = ((v >> 1) & 0x55555555) | ((v & 0x55555555) << 1);
  v = ((v >> 2) & 0x33333333) | ((v & 0x33333333) << 2);
  v = ((v >> 4) & 0x0f0f0f0f) | ((v & 0x0f0f0f0f) << 4);
  return bswap(v);
}

/** Transforms `size` (a power of two, at least 4) complex numbers: two stages of radix 2 at a time. */
export function transform(data: usize, size: i32, table: usize): void {
  let span = size;
  for (; span >= 4; span >>= 2)
    for (let block = 0; block * span < size; block++) forward4(data + ((<usize>block * span) << 5), span >> 2, table, block);
  if (span == 2) for (let block = 0; block * 2 < size; block++) forward2(data + ((<usize>block) << 6), table + ((<usize>block) << 3));
}

/** The way back, without the factor 1 / size. */
export function transformBack(data: usize, size: i32, table: usize): void {
  let span = 4;
  // An odd number of stages begins with the one of radix 2.
  if ((ctz(size) & 1) != 0) {
    for (let block = 0; block * 2 < size; block++) backward2(data + ((<usize>block) << 6), table + ((<usize>block) << 3));
    span = 8;
  }
  for (; span <= size; span <<= 2)
    for (let block = 0; block * span < size; block++) backward4(data + ((<usize>block * span) << 5), span >> 2, table, block);
}

/** A block of radix 4: its quarters are `count` numbers each. */
function forward4(data: usize, count: i32, table: usize, block: i32): void {
  const quarter = (<usize>count) << 5;
  const first = table + ((<usize>block) << 3), second = table + ((<usize>block) << 4);
  const wRe = v128.load32_splat(first), wIm = v128.load32_splat(first, 4);
  const vRe = v128.load32_splat(second), vIm = v128.load32_splat(second, 4);
  for (const end = data + quarter; data < end; data += 32) {
    const at1 = data + quarter, at2 = at1 + quarter, at3 = at2 + quarter;
    const aRe = v128.load(data), aIm = v128.load(data, 16), bRe = v128.load(at1), bIm = v128.load(at1, 16);
    const cRe = v128.load(at2), cIm = v128.load(at2, 16), dRe = v128.load(at3), dIm = v128.load(at3, 16);
    const wcRe = fnma(wIm, cIm, f32x4.mul(wRe, cRe)), wcIm = fma(wIm, cRe, f32x4.mul(wRe, cIm));
    const wdRe = fnma(wIm, dIm, f32x4.mul(wRe, dRe)), wdIm = fma(wIm, dRe, f32x4.mul(wRe, dIm));
    const sRe = f32x4.add(aRe, wcRe), sIm = f32x4.add(aIm, wcIm), tRe = f32x4.sub(aRe, wcRe), tIm = f32x4.sub(aIm, wcIm);
    const pRe = f32x4.add(bRe, wdRe), pIm = f32x4.add(bIm, wdIm), qRe = f32x4.sub(bRe, wdRe), qIm = f32x4.sub(bIm, wdIm);
    const vpRe = fnma(vIm, pIm, f32x4.mul(vRe, pRe)), vpIm = fma(vIm, pRe, f32x4.mul(vRe, pIm));
    const vqRe = fnma(vIm, qIm, f32x4.mul(vRe, qRe)), vqIm = fma(vIm, qRe, f32x4.mul(vRe, qIm));
    v128.store(data, f32x4.add(sRe, vpRe));
    v128.store(data, f32x4.add(sIm, vpIm), 16);
    v128.store(at1, f32x4.sub(sRe, vpRe));
    v128.store(at1, f32x4.sub(sIm, vpIm), 16);
    // The twiddle of the odd block is -i times that of the even one.
    v128.store(at2, f32x4.add(tRe, vqIm));
    v128.store(at2, f32x4.sub(tIm, vqRe), 16);
    v128.store(at3, f32x4.sub(tRe, vqIm));
    v128.store(at3, f32x4.add(tIm, vqRe), 16);
  }
}

function backward4(data: usize, count: i32, table: usize, block: i32): void {
  const quarter = (<usize>count) << 5;
  const first = table + ((<usize>block) << 3), second = table + ((<usize>block) << 4);
  const wRe = v128.load32_splat(first), wIm = v128.load32_splat(first, 4);
  const vRe = v128.load32_splat(second), vIm = v128.load32_splat(second, 4);
  for (const end = data + quarter; data < end; data += 32) {
    const at1 = data + quarter, at2 = at1 + quarter, at3 = at2 + quarter;
    const aRe = v128.load(data), aIm = v128.load(data, 16), bRe = v128.load(at1), bIm = v128.load(at1, 16);
    const cRe = v128.load(at2), cIm = v128.load(at2, 16), dRe = v128.load(at3), dIm = v128.load(at3, 16);
    const sRe = f32x4.add(aRe, bRe), sIm = f32x4.add(aIm, bIm), tRe = f32x4.add(cRe, dRe), tIm = f32x4.add(cIm, dIm);
    const eRe = f32x4.sub(aRe, bRe), eIm = f32x4.sub(aIm, bIm);
    // i (c - d).
    const fRe = f32x4.sub(dIm, cIm), fIm = f32x4.sub(cRe, dRe);
    const pRe = fma(vIm, eIm, f32x4.mul(vRe, eRe)), pIm = fnma(vIm, eRe, f32x4.mul(vRe, eIm));
    const qRe = fma(vIm, fIm, f32x4.mul(vRe, fRe)), qIm = fnma(vIm, fRe, f32x4.mul(vRe, fIm));
    const gRe = f32x4.sub(sRe, tRe), gIm = f32x4.sub(sIm, tIm), hRe = f32x4.sub(pRe, qRe), hIm = f32x4.sub(pIm, qIm);
    v128.store(data, f32x4.add(sRe, tRe));
    v128.store(data, f32x4.add(sIm, tIm), 16);
    v128.store(at1, f32x4.add(pRe, qRe));
    v128.store(at1, f32x4.add(pIm, qIm), 16);
    v128.store(at2, fma(wIm, gIm, f32x4.mul(wRe, gRe)));
    v128.store(at2, fnma(wIm, gRe, f32x4.mul(wRe, gIm)), 16);
    v128.store(at3, fma(wIm, hIm, f32x4.mul(wRe, hRe)));
    v128.store(at3, fnma(wIm, hRe, f32x4.mul(wRe, hIm)), 16);
  }
}

function forward2(data: usize, twiddle: usize): void {
  const wRe = v128.load32_splat(twiddle), wIm = v128.load32_splat(twiddle, 4);
  const aRe = v128.load(data), aIm = v128.load(data, 16), bRe = v128.load(data, 32), bIm = v128.load(data, 48);
  const re = fnma(wIm, bIm, f32x4.mul(wRe, bRe)), im = fma(wIm, bRe, f32x4.mul(wRe, bIm));
  v128.store(data, f32x4.add(aRe, re));
  v128.store(data, f32x4.add(aIm, im), 16);
  v128.store(data, f32x4.sub(aRe, re), 32);
  v128.store(data, f32x4.sub(aIm, im), 48);
}

function backward2(data: usize, twiddle: usize): void {
  const wRe = v128.load32_splat(twiddle), wIm = v128.load32_splat(twiddle, 4);
  const aRe = v128.load(data), aIm = v128.load(data, 16), bRe = v128.load(data, 32), bIm = v128.load(data, 48);
  const re = f32x4.sub(aRe, bRe), im = f32x4.sub(aIm, bIm);
  v128.store(data, f32x4.add(aRe, bRe));
  v128.store(data, f32x4.add(aIm, bIm), 16);
  v128.store(data, fma(wIm, im, f32x4.mul(wRe, re)), 32);
  v128.store(data, fnma(wIm, re, f32x4.mul(wRe, im)), 48);
}
