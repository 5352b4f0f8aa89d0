// s4dKernel: powers of ABar summed over pairs, four channels in the lanes, CHUNK steps at a time. See src/ops/s4d-kernel/README.md.
import { exp, fma, fnma } from "./math";
import { nextItem, scratch } from "./runtime";
import { at, loadLanes, storeLanes } from "./scan-args";
import { A_BAR, B_BAR, C, DECAY, discreteAt, OF_B, OF_C, OF_POWER, paddedPairs, PHASE_HIGH, PHASE_LOW, S4dGradientArgs, sumAt } from "./s4d-discrete";

/** Steps between powers that are made anew, from their logarithm: few, so that roundings do not add up. */
const CHUNK: i32 = 16;
/** Steps whose tile stays in the first cache while all pairs pass over it. */
const TILE: i32 = 256;

/** Arguments of both kernels; `kernel` is the kernel's gradient in the backward one. */
@unmanaged
class KernelArgs extends S4dGradientArgs {
  kernel: u32;
  kernelStride: u32;
  length: i32;
}

/** The power ABar^step of four channels. */
let powerRe: v128 = f32x4.splat(0);
let powerIm: v128 = f32x4.splat(0);

/** Sets powerRe and powerIm: the phase in fixed point, where whole turns fall out, the size by an exponential. */
function setPower(s: KernelArgs, pair: i32, channel: i32, step: i32): void {
  const high = discreteAt(s, PHASE_HIGH, pair, channel);
  const low = discreteAt(s, PHASE_LOW, pair, channel);
  let phase = i32x4.splat(phaseAt(high, low, step));
  phase = i32x4.replace_lane(phase, 1, phaseAt(high + 4, low + 4, step));
  phase = i32x4.replace_lane(phase, 2, phaseAt(high + 8, low + 8, step));
  phase = i32x4.replace_lane(phase, 3, phaseAt(high + 12, low + 12, step));
  const size = exp(f32x4.mul(v128.load(discreteAt(s, DECAY, pair, channel)), f32x4.splat(<f32>step)));
  setCircle(phase);
  powerRe = f32x4.mul(size, powerRe);
  powerIm = f32x4.mul(size, powerIm);
}

/** The phase of ABar^step in turns: the upper 32 bits. */
// @ts-ignore: decorator
@inline
function phaseAt(high: usize, low: usize, step: i32): i32 {
  return <i32>((((<u64>load<u32>(high) << 32) | <u64>load<u32>(low)) * <u64>step) >> 32);
}

/** Cosine and sine of turns in fixed point, to 1e-7: the nearest quarter, and Taylor's series of the rest, at most 1/8 turn. */
function setCircle(turns: v128): void {
  const quarter = i32x4.shr_u(i32x4.add(turns, i32x4.splat(1 << 29)), 30);
  const rest = f32x4.convert_i32x4_s(i32x4.sub(turns, i32x4.shl(quarter, 30)));
  const a = f32x4.mul(rest, f32x4.splat(1.4629180792671596e-9));
  const aa = f32x4.mul(a, a);
  let s = fma(aa, f32x4.splat(2.7557319223985893e-6), f32x4.splat(-1.984126984126984e-4));
  s = fma(aa, s, f32x4.splat(8.333333333333333e-3));
  s = fma(aa, s, f32x4.splat(-0.16666666666666666));
  s = fma(f32x4.mul(aa, a), s, a);
  let c = fma(aa, f32x4.splat(2.48015873015873e-5), f32x4.splat(-1.388888888888889e-3));
  c = fma(aa, c, f32x4.splat(4.1666666666666664e-2));
  c = fma(aa, c, f32x4.splat(-0.5));
  c = fma(aa, c, f32x4.splat(1));
  const isOdd = i32x4.ne(v128.and(quarter, i32x4.splat(1)), i32x4.splat(0));
  // Of quarters 0 to 3 the cosine is c, -s, -c, s and the sine s, c, -s, -c.
  const flipRe = i32x4.shl(v128.and(i32x4.add(quarter, i32x4.splat(1)), i32x4.splat(2)), 30);
  const flipIm = i32x4.shl(v128.and(quarter, i32x4.splat(2)), 30);
  powerRe = v128.xor(v128.bitselect(s, c, isOdd), flipRe);
  powerIm = v128.xor(v128.bitselect(c, s, isOdd), flipIm);
}

/** args: KernelArgs. An item: four channels and TILE steps. */
export function s4dKernel(args: usize): void {
  const s = changetype<KernelArgs>(args);
  const quads = (s.channels + 3) >> 2;
  const items = quads * ((s.length + TILE - 1) / TILE);
  for (let item = nextItem(); item < items; item = nextItem()) {
    const channel = (item % quads) << 2;
    const lanes = min(4, s.channels - channel);
    const first = (item / quads) * TILE;
    const count = min(TILE, s.length - first);
    memory.fill(scratch, 0, <usize>TILE << 4);
    for (let pair = 0; pair < paddedPairs(s); pair += 2)
      for (let chunk = 0; chunk < count; chunk += CHUNK) addPairs(s, pair, channel, first + chunk, scratch + ((<usize>chunk) << 4));
    let to = at(s.kernel, s.kernelStride, first, channel);
    for (let tile = scratch, end = scratch + ((<usize>count) << 4); tile < end; tile += 16) {
      storeLanes(to, v128.load(tile), lanes);
      to += <usize>s.kernelStride << 2;
    }
  }
}

/** Adds 2 Re(C BBar ABar^l) of two pairs to CHUNK steps of a tile. */
function addPairs(s: KernelArgs, pair: i32, channel: i32, step: i32, tile: usize): void {
  setPower(s, pair, channel, step);
  setWeighted(s, pair, channel);
  let aRe = powerRe, aIm = powerIm;
  setPower(s, pair + 1, channel, step);
  setWeighted(s, pair + 1, channel);
  let bRe = powerRe, bIm = powerIm;
  const zaRe = v128.load(discreteAt(s, A_BAR, pair, channel)), zaIm = v128.load(discreteAt(s, A_BAR + 1, pair, channel));
  const zbRe = v128.load(discreteAt(s, A_BAR, pair + 1, channel)), zbIm = v128.load(discreteAt(s, A_BAR + 1, pair + 1, channel));
  for (const end = tile + (<usize>CHUNK << 4); tile < end; tile += 16) {
    v128.store(tile, f32x4.add(v128.load(tile), f32x4.add(aRe, bRe)));
    const nextA = fnma(aIm, zaIm, f32x4.mul(aRe, zaRe));
    aIm = fma(aIm, zaRe, f32x4.mul(aRe, zaIm));
    aRe = nextA;
    const nextB = fnma(bIm, zbIm, f32x4.mul(bRe, zbRe));
    bIm = fma(bIm, zbRe, f32x4.mul(bRe, zbIm));
    bRe = nextB;
  }
}

/** power *= 2 C BBar. */
function setWeighted(s: KernelArgs, pair: i32, channel: i32): void {
  const two = f32x4.splat(2);
  const cRe = f32x4.mul(two, v128.load(discreteAt(s, C, pair, channel))), cIm = f32x4.mul(two, v128.load(discreteAt(s, C + 1, pair, channel)));
  const bRe = v128.load(discreteAt(s, B_BAR, pair, channel)), bIm = v128.load(discreteAt(s, B_BAR + 1, pair, channel));
  const wRe = fnma(cIm, bIm, f32x4.mul(cRe, bRe)), wIm = fma(cRe, bIm, f32x4.mul(cIm, bRe));
  const re = fnma(wIm, powerIm, f32x4.mul(wRe, powerRe));
  powerIm = fma(wRe, powerIm, f32x4.mul(wIm, powerRe));
  powerRe = re;
}

/** args: KernelArgs, with one part of sums. An item: four channels. s4dGradients follows. */
export function s4dKernelBackward(args: usize): void {
  const s = changetype<KernelArgs>(args);
  const quads = (s.channels + 3) >> 2;
  for (let item = nextItem(); item < quads; item = nextItem()) {
    const channel = item << 2;
    const lanes = min(4, s.channels - channel);
    const pairs = paddedPairs(s);
    memory.fill(scratch, 0, (<usize>pairs) << 6);
    for (let first = 0; first < s.length; first += TILE) {
      const count = min(TILE, s.length - first);
      const tile = scratch + ((<usize>pairs) << 6);
      memory.fill(tile, 0, <usize>TILE << 4);
      for (let i = 0; i < count; i++) v128.store(tile + ((<usize>i) << 4), loadLanes(at(s.kernel, s.kernelStride, first + i, channel), lanes));
      for (let pair = 0; pair < s.pairs; pair++)
        for (let chunk = 0; chunk < count; chunk += CHUNK)
          addSums(s, pair, channel, first + chunk, tile + ((<usize>chunk) << 4), scratch + ((<usize>pair) << 6));
    }
    for (let pair = 0; pair < s.pairs; pair++) storeSums(s, pair, channel, scratch + ((<usize>pair) << 6));
  }
}

/** Of a chunk of the gradient g: S0 += sum g[l] ABar^l, S1 += sum l g[l] ABar^l. */
function addSums(s: KernelArgs, pair: i32, channel: i32, step: i32, tile: usize, sums: usize): void {
  const zRe = v128.load(discreteAt(s, A_BAR, pair, channel)), zIm = v128.load(discreteAt(s, A_BAR + 1, pair, channel));
  const zero = f32x4.splat(0);
  let re = f32x4.splat(1), im = zero, s0Re = zero, s0Im = zero, s1Re = zero, s1Im = zero, place = zero;
  for (const end = tile + (<usize>CHUNK << 4); tile < end; tile += 16) {
    const g = v128.load(tile);
    const placed = f32x4.mul(g, place);
    s0Re = fma(g, re, s0Re);
    s0Im = fma(g, im, s0Im);
    s1Re = fma(placed, re, s1Re);
    s1Im = fma(placed, im, s1Im);
    const next = fnma(im, zIm, f32x4.mul(re, zRe));
    im = fma(im, zRe, f32x4.mul(re, zIm));
    re = next;
    place = f32x4.add(place, f32x4.splat(1));
  }
  setPower(s, pair, channel, step);
  const from = f32x4.splat(<f32>step);
  s1Re = fma(from, s0Re, s1Re);
  s1Im = fma(from, s0Im, s1Im);
  v128.store(sums, f32x4.add(v128.load(sums), fnma(powerIm, s0Im, f32x4.mul(powerRe, s0Re))));
  v128.store(sums, f32x4.add(v128.load(sums, 16), fma(powerIm, s0Re, f32x4.mul(powerRe, s0Im))), 16);
  v128.store(sums, f32x4.add(v128.load(sums, 32), fnma(powerIm, s1Im, f32x4.mul(powerRe, s1Re))), 32);
  v128.store(sums, f32x4.add(v128.load(sums, 48), fma(powerIm, s1Re, f32x4.mul(powerRe, s1Im))), 48);
}

/** ofPower = 2 C BBar S1, ofB = 2 C S0, ofC = BBar S0. */
function storeSums(s: KernelArgs, pair: i32, channel: i32, sums: usize): void {
  const s0Re = v128.load(sums), s0Im = v128.load(sums, 16);
  const bRe = v128.load(discreteAt(s, B_BAR, pair, channel)), bIm = v128.load(discreteAt(s, B_BAR + 1, pair, channel));
  const two = f32x4.splat(2);
  const cRe = f32x4.mul(two, v128.load(discreteAt(s, C, pair, channel))), cIm = f32x4.mul(two, v128.load(discreteAt(s, C + 1, pair, channel)));
  powerRe = v128.load(sums, 32);
  powerIm = v128.load(sums, 48);
  setWeighted(s, pair, channel);
  v128.store(sumAt(s, s.sums, 0, OF_POWER, pair, channel), powerRe);
  v128.store(sumAt(s, s.sums, 0, OF_POWER + 1, pair, channel), powerIm);
  v128.store(sumAt(s, s.sums, 0, OF_B, pair, channel), fnma(cIm, s0Im, f32x4.mul(cRe, s0Re)));
  v128.store(sumAt(s, s.sums, 0, OF_B + 1, pair, channel), fma(cRe, s0Im, f32x4.mul(cIm, s0Re)));
  v128.store(sumAt(s, s.sums, 0, OF_C, pair, channel), fnma(bIm, s0Im, f32x4.mul(bRe, s0Re)));
  v128.store(sumAt(s, s.sums, 0, OF_C + 1, pair, channel), fma(bRe, s0Im, f32x4.mul(bIm, s0Re)));
}
