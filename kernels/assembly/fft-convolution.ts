// fftConvolution: products of spectra of real sequences, two steps to a complex number. See src/ops/fft-convolution/README.md.
import { transform, transformBack } from "./fft";
import { fma, fnma } from "./math";
import { nextItem, scratch } from "./runtime";
import { at, loadLanes, storeLanes } from "./scan-args";

@unmanaged
class Args {
  /** x [batch, length, channels]: the sequences that are convolved (or correlated). */
  x: u32;
  xStride: u32;
  /** What comes out, added to where `adds`: like x; in fftKernelGradient [length, channels]. */
  y: u32;
  yStride: u32;
  D: u32;
  batch: i32;
  length: i32;
  channels: i32;
  /** Complex numbers of a transform, a power of two that is at least max(length, 4). */
  size: i32;
  table: u32;
  /** [quads, size]: the kernel's transform, or in fftKernelGradient unused. */
  spectra: u32;
  /** Room for the transforms of item i - first; 0: each thread's scratch memory has room enough. */
  workspace: u32;
  first: i32;
  count: i32;
  isCorrelation: i32;
  adds: i32;
  /** In fftKernelGradient: the sequences that grad.y (x) is correlated with, and grad.D. */
  other: u32;
  otherStride: u32;
  gradD: u32;
}

/** args: Args. An item: the transform of four channels of x (one sequence) to spectra. */
export function fftSpectra(args: usize): void {
  const s = changetype<Args>(args);
  const quads = (s.channels + 3) >> 2;
  for (let quad = nextItem(); quad < quads; quad = nextItem()) {
    const to = <usize>s.spectra + ((<usize>quad * s.size) << 5);
    loadSequence(s, s.x, s.xStride, 0, quad << 2, to);
    transform(to, s.size, s.table);
  }
}

/** args: Args. An item: four channels of a sequence, convolved with the kernel whose spectrum is there. */
export function fftConvolve(args: usize): void {
  const s = changetype<Args>(args);
  const quads = (s.channels + 3) >> 2;
  for (let item = nextItem(); item < s.count; item = nextItem()) {
    const index = s.first + item;
    const quad = index % quads, b = index / quads;
    const data = s.workspace ? <usize>s.workspace + ((<usize>item * s.size) << 5) : scratch;
    loadSequence(s, s.x, s.xStride, b, quad << 2, data);
    transform(data, s.size, s.table);
    multiply(s, data, <usize>s.spectra + ((<usize>quad * s.size) << 5), data, s.isCorrelation, false);
    transformBack(data, s.size, s.table);
    storeSequence(s, b, quad << 2, data);
  }
}

/** args: Args. An item: four channels of the kernel's gradient, a sum over the batch; and of grad.D. */
export function fftKernelGradient(args: usize): void {
  const s = changetype<Args>(args);
  const bytes = (<usize>s.size) << 5;
  for (let item = nextItem(); item < s.count; item = nextItem()) {
    const channel = (s.first + item) << 2;
    const sum = s.workspace ? <usize>s.workspace + 3 * <usize>item * bytes : scratch;
    const gradY = sum + bytes, x = gradY + bytes;
    memory.fill(sum, 0, bytes);
    for (let b = 0; b < s.batch; b++) {
      loadSequence(s, s.x, s.xStride, b, channel, gradY);
      loadSequence(s, s.other, s.otherStride, b, channel, x);
      if (s.gradD) addProducts(s, gradY, x, channel);
      if (!s.y) continue;
      transform(gradY, s.size, s.table);
      transform(x, s.size, s.table);
      multiply(s, gradY, x, sum, true, true);
    }
    if (!s.y) continue;
    transformBack(sum, s.size, s.table);
    storeSequence(s, 0, channel, sum);
  }
}

/** grad.D += sum over time of grad.y x. */
function addProducts(s: Args, gradY: usize, x: usize, channel: i32): void {
  let even = f32x4.splat(0), odd = even;
  for (const end = gradY + ((<usize>((s.length + 1) >> 1)) << 5); gradY < end; gradY += 32) {
    even = fma(v128.load(gradY), v128.load(x), even);
    odd = fma(v128.load(gradY, 16), v128.load(x, 16), odd);
    x += 32;
  }
  const lanes = min(4, s.channels - channel);
  const to = <usize>s.gradD + ((<usize>channel) << 2);
  storeLanes(to, f32x4.add(loadLanes(to, lanes), f32x4.add(even, odd)), lanes);
}

/** Steps 2i and 2i + 1 become the complex number i; zeros behind them. */
function loadSequence(s: Args, from: u32, stride: u32, b: i32, channel: i32, to: usize): void {
  const lanes = min(4, s.channels - channel);
  const end = to + ((<usize>s.size) << 5);
  let address = at(from, stride, b * s.length, channel);
  for (let t = 0; t < s.length; t++, to += 16, address += <usize>stride << 2) v128.store(to, loadLanes(address, lanes));
  memory.fill(to, 0, end - to);
}

/** y = what was convolved + D x. */
function storeSequence(s: Args, b: i32, channel: i32, from: usize): void {
  const lanes = min(4, s.channels - channel);
  const skip = s.D ? loadLanes(<usize>s.D + ((<usize>channel) << 2), lanes) : f32x4.splat(0);
  let x = at(s.x, s.xStride, b * s.length, channel);
  let y = at(s.y, s.yStride, b * s.length, channel);
  for (let t = 0; t < s.length; t++) {
    let value = v128.load(from);
    if (s.D) value = fma(skip, loadLanes(x, lanes), value);
    if (s.adds) value = f32x4.add(value, loadLanes(y, lanes));
    storeLanes(y, value, lanes);
    from += 16;
    x += <usize>s.xStride << 2;
    y += <usize>s.yStride << 2;
  }
}

/** to = (or +=) the transform of the convolution of a and b, or of the correlation; with all factors. */
function multiply(s: Args, a: usize, b: usize, to: usize, isCorrelation: i32, isAdded: bool): void {
  pairProduct(s, a, b, to, 0, 0, isCorrelation, isAdded);
  pairProduct(s, a, b, to, 1, 1, isCorrelation, isAdded);
  for (let low = 2; low < s.size; low <<= 1)
    for (let p = low, q = 2 * low - 1; p < q; p++, q--) pairProduct(s, a, b, to, p, q, isCorrelation, isAdded);
}

/** Numbers p and q, which stand for frequencies k and size - k. */
function pairProduct(s: Args, a: usize, b: usize, to: usize, p: i32, q: i32, isCorrelation: i32, isAdded: bool): void {
  const atP = (<usize>p) << 5, atQ = (<usize>q) << 5;
  const twiddle = <usize>s.table + ((<usize>(p >> 1)) << 3);
  // exp(-2πi k / size).
  let vRe = v128.load32_splat(twiddle), vIm = v128.load32_splat(twiddle, 4);
  if (p & 1) {
    vRe = f32x4.neg(vRe);
    vIm = f32x4.neg(vIm);
  }
  const aRe = v128.load(a + atP), aIm = v128.load(a + atP, 16), cRe = v128.load(a + atQ), cIm = v128.load(a + atQ, 16);
  const bRe = v128.load(b + atP), bIm = v128.load(b + atP, 16), dRe = v128.load(b + atQ), dIm = v128.load(b + atQ, 16);
  // Twice the transforms of even and odd steps: of a (x, even and odd) and of b (h).
  const xeRe = f32x4.add(aRe, cRe), xeIm = f32x4.sub(aIm, cIm), xoRe = f32x4.add(aIm, cIm), xoIm = f32x4.sub(cRe, aRe);
  const heRe = f32x4.add(bRe, dRe), hoRe = f32x4.add(bIm, dIm);
  let heIm = f32x4.sub(bIm, dIm), hoIm = f32x4.sub(dRe, bRe);
  if (isCorrelation) {
    heIm = f32x4.neg(heIm);
    hoIm = f32x4.neg(hoIm);
    vIm = f32x4.neg(vIm);
  }
  const eeRe = fnma(xeIm, heIm, f32x4.mul(xeRe, heRe)), eeIm = fma(xeIm, heRe, f32x4.mul(xeRe, heIm));
  const ooRe = fnma(xoIm, hoIm, f32x4.mul(xoRe, hoRe)), ooIm = fma(xoIm, hoRe, f32x4.mul(xoRe, hoIm));
  const eoRe = fnma(xeIm, hoIm, f32x4.mul(xeRe, hoRe)), eoIm = fma(xeIm, hoRe, f32x4.mul(xeRe, hoIm));
  const oeRe = fnma(xoIm, heIm, f32x4.mul(xoRe, heRe)), oeIm = fma(xoIm, heRe, f32x4.mul(xoRe, heIm));
  // The late one of two products: odd with odd is a step of two late, odd with even in a correlation two early.
  const lRe = isCorrelation ? eoRe : ooRe, lIm = isCorrelation ? eoIm : ooIm;
  const lateRe = fnma(vIm, lIm, f32x4.mul(vRe, lRe)), lateIm = fma(vIm, lRe, f32x4.mul(vRe, lIm));
  const scale = f32x4.splat(0.25 / <f32>s.size);
  const yeRe = f32x4.mul(scale, f32x4.add(eeRe, isCorrelation ? ooRe : lateRe)), yeIm = f32x4.mul(scale, f32x4.add(eeIm, isCorrelation ? ooIm : lateIm));
  const yoRe = f32x4.mul(scale, f32x4.add(oeRe, isCorrelation ? lateRe : eoRe)), yoIm = f32x4.mul(scale, f32x4.add(oeIm, isCorrelation ? lateIm : eoIm));
  put(to + atP, f32x4.sub(yeRe, yoIm), f32x4.add(yeIm, yoRe), isAdded);
  if (p != q) put(to + atQ, f32x4.add(yeRe, yoIm), f32x4.sub(yoRe, yeIm), isAdded);
}

// @ts-ignore: decorator
@inline
function put(to: usize, re: v128, im: v128, isAdded: bool): void {
  v128.store(to, isAdded ? f32x4.add(v128.load(to), re) : re);
  v128.store(to, isAdded ? f32x4.add(v128.load(to, 16), im) : im, 16);
}
