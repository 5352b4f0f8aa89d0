// s4dScan: the recurrence h = ABar h + BBar x of complex states, four channels in the lanes, and its gradients.
// A sequence goes by chunks of STEPS; two pairs at a time. See src/ops/s4d-scan/README.md.
import { fma, fnma } from "./math";
import { nextItem, scratch } from "./runtime";
import { at, loadLanes, storeLanes } from "./scan-args";
import { A_BAR, B_BAR, C, discreteAt, OF_B, OF_C, OF_POWER, paddedPairs, S4dGradientArgs, SUM_PLANES, sumAt } from "./s4d-discrete";

/** Steps of a chunk, before which a state is saved. Mirrors CHUNK in src/ops/s4d-scan/index.ts. */
const STEPS: i32 = 64;

/** Parts of scratch memory: tiles [STEPS][4 channels], the states of one pair through a chunk, and all states at once. */
const TILE_BYTES: usize = <usize>STEPS << 4;
const X: usize = 0;
const Y: usize = X + TILE_BYTES;
const GRAD_X: usize = Y + TILE_BYTES;
const PATH: usize = GRAD_X + TILE_BYTES;
const STATES: usize = PATH + 2 * TILE_BYTES + 64;

@unmanaged
class Args extends S4dGradientArgs {
  x: u32;
  xStride: u32;
  D: u32;
  initial: u32;
  initialStride: u32;
  starts: u32;
  startsStride: u32;
  batch: i32;
  length: i32;
  /** [batch, quads, chunks, padded pairs, 2, 4]: the states before each chunk; 0: not wanted. */
  saved: u32;
  y: u32;
  yStride: u32;
  final: u32;
  finalStride: u32;
  gradX: u32;
  gradXStride: u32;
  gradInitial: u32;
  gradInitialStride: u32;
}

// @ts-ignore: decorator
@inline
function stateBytes(s: Args): usize {
  return (<usize>paddedPairs(s)) << 5;
}

// @ts-ignore: decorator
@inline
function savedAt(s: Args, b: i32, quad: i32, chunk: i32): usize {
  const chunks = (s.length + STEPS - 1) / STEPS;
  return <usize>s.saved + <usize>((b * ((s.channels + 3) >> 2) + quad) * chunks + chunk) * stateBytes(s);
}

// @ts-ignore: decorator
@inline
function isStart(s: Args, b: i32, t: i32): bool {
  return s.starts != 0 && load<i32>(at(s.starts, s.startsStride, b, t)) != 0;
}

/** The first step of a chunk, from `step` + 1 on, at which a document starts; else the end of the chunk. */
function nextStart(s: Args, b: i32, first: i32, step: i32, count: i32): i32 {
  if (!s.starts) return count;
  let next = step + 1;
  while (next < count && !isStart(s, b, first + next)) next++;
  return next;
}

/** args: Args. An item: four channels of one sequence. */
export function s4dScan(args: usize): void {
  const s = changetype<Args>(args);
  const quads = (s.channels + 3) >> 2;
  const items = quads * s.batch;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const quad = item % quads, b = item / quads;
    const channel = quad << 2;
    const lanes = min(4, s.channels - channel);
    memory.fill(scratch + STATES, 0, stateBytes(s));
    if (s.initial) gather(s.initial, s.initialStride, s, b, channel, lanes, 1);
    for (let first = 0; first < s.length; first += STEPS) {
      const count = min(STEPS, s.length - first);
      if (s.saved) memory.copy(savedAt(s, b, quad, first / STEPS), scratch + STATES, stateBytes(s));
      loadTile(scratch + X, s.x, s.xStride, b * s.length + first, channel, lanes, count);
      const skip = s.D ? loadLanes(<usize>s.D + ((<usize>channel) << 2), lanes) : f32x4.splat(0);
      for (let i: usize = 0; i < (<usize>count) << 4; i += 16) v128.store(scratch + Y + i, f32x4.mul(skip, v128.load(scratch + X + i)));
      for (let step = 0; step < count; ) {
        const end = nextStart(s, b, first, step, count);
        if (isStart(s, b, first + step)) memory.fill(scratch + STATES, 0, stateBytes(s));
        for (let pair = 0; pair < paddedPairs(s); pair += 2) runPairs(s, pair, channel, step, end);
        step = end;
      }
      storeTile(scratch + Y, s.y, s.yStride, b * s.length + first, channel, lanes, count);
    }
    scatter(s.final, s.finalStride, s, b, channel, lanes);
  }
}

/** Two pairs from step to end: y += 2 Re(C h). */
function runPairs(s: Args, pair: i32, channel: i32, step: i32, end: i32): void {
  const states = scratch + STATES + ((<usize>pair) << 5);
  const two = f32x4.splat(2);
  const zaRe = v128.load(discreteAt(s, A_BAR, pair, channel)), zaIm = v128.load(discreteAt(s, A_BAR + 1, pair, channel));
  const zbRe = v128.load(discreteAt(s, A_BAR, pair + 1, channel)), zbIm = v128.load(discreteAt(s, A_BAR + 1, pair + 1, channel));
  const baRe = v128.load(discreteAt(s, B_BAR, pair, channel)), baIm = v128.load(discreteAt(s, B_BAR + 1, pair, channel));
  const bbRe = v128.load(discreteAt(s, B_BAR, pair + 1, channel)), bbIm = v128.load(discreteAt(s, B_BAR + 1, pair + 1, channel));
  const caRe = f32x4.mul(two, v128.load(discreteAt(s, C, pair, channel))), caIm = f32x4.mul(two, v128.load(discreteAt(s, C + 1, pair, channel)));
  const cbRe = f32x4.mul(two, v128.load(discreteAt(s, C, pair + 1, channel))), cbIm = f32x4.mul(two, v128.load(discreteAt(s, C + 1, pair + 1, channel)));
  let aRe = v128.load(states), aIm = v128.load(states, 16), bRe = v128.load(states, 32), bIm = v128.load(states, 48);
  for (let tile = scratch + ((<usize>step) << 4), last = scratch + ((<usize>end) << 4); tile < last; tile += 16) {
    const x = v128.load(tile, X);
    const nextA = fma(zaRe, aRe, fnma(zaIm, aIm, f32x4.mul(baRe, x)));
    aIm = fma(zaRe, aIm, fma(zaIm, aRe, f32x4.mul(baIm, x)));
    aRe = nextA;
    const nextB = fma(zbRe, bRe, fnma(zbIm, bIm, f32x4.mul(bbRe, x)));
    bIm = fma(zbRe, bIm, fma(zbIm, bRe, f32x4.mul(bbIm, x)));
    bRe = nextB;
    const ofA = fnma(caIm, aIm, f32x4.mul(caRe, aRe));
    v128.store(tile, f32x4.add(v128.load(tile, Y), fnma(cbIm, bIm, fma(cbRe, bRe, ofA))), Y);
  }
  v128.store(states, aRe);
  v128.store(states, aIm, 16);
  v128.store(states, bRe, 32);
  v128.store(states, bIm, 48);
}

/** args: Args, where y and final are the gradients that came in (0: none). An item as in s4dScan; a part of sums a sequence. */
export function s4dScanBackward(args: usize): void {
  const s = changetype<Args>(args);
  const quads = (s.channels + 3) >> 2;
  const items = quads * s.batch;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const quad = item % quads, b = item / quads;
    const channel = quad << 2;
    const lanes = min(4, s.channels - channel);
    for (let plane = 0; plane < SUM_PLANES; plane++)
      for (let pair = 0; pair < s.pairs; pair++) v128.store(sumAt(s, s.sums, b, plane, pair, channel), f32x4.splat(0));
    memory.fill(scratch + STATES, 0, stateBytes(s));
    if (s.final) gather(s.final, s.finalStride, s, b, channel, lanes, -1);
    let ofSkip = f32x4.splat(0);
    for (let chunk = (s.length - 1) / STEPS; chunk >= 0; chunk--) {
      const first = chunk * STEPS;
      const count = min(STEPS, s.length - first);
      const skip = s.D ? loadLanes(<usize>s.D + ((<usize>channel) << 2), lanes) : f32x4.splat(0);
      loadTile(scratch + X, s.x, s.xStride, b * s.length + first, channel, lanes, count);
      if (s.y) loadTile(scratch + Y, s.y, s.yStride, b * s.length + first, channel, lanes, count);
      else memory.fill(scratch + Y, 0, TILE_BYTES);
      for (let tile = scratch, last = scratch + ((<usize>count) << 4); tile < last; tile += 16) {
        ofSkip = fma(v128.load(tile, Y), v128.load(tile, X), ofSkip);
        v128.store(tile, f32x4.mul(skip, v128.load(tile, Y)), GRAD_X);
      }
      for (let pair = 0; pair < s.pairs; pair++) {
        computePath(s, b, pair, channel, savedAt(s, b, quad, chunk) + ((<usize>pair) << 5), first, count);
        backwardPath(s, b, pair, channel, first, count);
      }
      if (s.gradX) addTile(scratch + GRAD_X, s.gradX, s.gradXStride, b * s.length + first, channel, lanes, count);
    }
    v128.store(sumAt(s, s.sums, b, SUM_PLANES, 0, channel), ofSkip);
    if (s.gradInitial) addStates(s, b, channel, lanes);
  }
}

/** The states of a pair after each step of a chunk, and before the first, in PATH. */
function computePath(s: Args, b: i32, pair: i32, channel: i32, start: usize, first: i32, count: i32): void {
  const zRe = v128.load(discreteAt(s, A_BAR, pair, channel)), zIm = v128.load(discreteAt(s, A_BAR + 1, pair, channel));
  const bRe = v128.load(discreteAt(s, B_BAR, pair, channel)), bIm = v128.load(discreteAt(s, B_BAR + 1, pair, channel));
  let re = v128.load(start), im = v128.load(start, 16);
  let path = scratch + PATH;
  for (let step = 0; step < count; step++, path += 32) {
    v128.store(path, re);
    v128.store(path, im, 16);
    if (isStart(s, b, first + step)) re = im = f32x4.splat(0);
    const x = v128.load(scratch + X + ((<usize>step) << 4));
    const next = fma(zRe, re, fnma(zIm, im, f32x4.mul(bRe, x)));
    im = fma(zRe, im, fma(zIm, re, f32x4.mul(bIm, x)));
    re = next;
  }
  v128.store(path, re);
  v128.store(path, im, 16);
}

/** Carries ABar G of a pair back through a chunk; adds to GRAD_X and to the sums. */
function backwardPath(s: Args, b: i32, pair: i32, channel: i32, first: i32, count: i32): void {
  const two = f32x4.splat(2), zero = f32x4.splat(0);
  const zRe = v128.load(discreteAt(s, A_BAR, pair, channel)), zIm = v128.load(discreteAt(s, A_BAR + 1, pair, channel));
  const bRe = v128.load(discreteAt(s, B_BAR, pair, channel)), bIm = v128.load(discreteAt(s, B_BAR + 1, pair, channel));
  const cRe = f32x4.mul(two, v128.load(discreteAt(s, C, pair, channel))), cIm = f32x4.mul(two, v128.load(discreteAt(s, C + 1, pair, channel)));
  const carried = scratch + STATES + ((<usize>pair) << 5);
  let re = v128.load(carried), im = v128.load(carried, 16);
  let powerRe = zero, powerIm = zero, ofBRe = zero, ofBIm = zero, ofCRe = zero, ofCIm = zero;
  for (let step = count - 1; step >= 0; step--) {
    const tile = scratch + ((<usize>step) << 4);
    const path = scratch + PATH + ((<usize>step) << 5);
    const g = v128.load(tile, Y), x = v128.load(tile, X);
    const gRe = fma(cRe, g, re), gIm = fma(cIm, g, im);
    ofBRe = fma(gRe, x, ofBRe);
    ofBIm = fma(gIm, x, ofBIm);
    ofCRe = fma(g, v128.load(path, 32), ofCRe);
    ofCIm = fma(g, v128.load(path, 48), ofCIm);
    v128.store(tile, fnma(gIm, bIm, fma(gRe, bRe, v128.load(tile, GRAD_X))), GRAD_X);
    re = fnma(zIm, gIm, f32x4.mul(zRe, gRe));
    im = fma(zRe, gIm, f32x4.mul(zIm, gRe));
    // Where a document starts nothing goes back to the state before.
    if (isStart(s, b, first + step)) re = im = zero;
    const hRe = v128.load(path), hIm = v128.load(path, 16);
    powerRe = fma(re, hRe, fnma(im, hIm, powerRe));
    powerIm = fma(re, hIm, fma(im, hRe, powerIm));
  }
  v128.store(carried, re);
  v128.store(carried, im, 16);
  addSum(sumAt(s, s.sums, b, OF_POWER, pair, channel), powerRe);
  addSum(sumAt(s, s.sums, b, OF_POWER + 1, pair, channel), powerIm);
  addSum(sumAt(s, s.sums, b, OF_B, pair, channel), ofBRe);
  addSum(sumAt(s, s.sums, b, OF_B + 1, pair, channel), ofBIm);
  addSum(sumAt(s, s.sums, b, OF_C, pair, channel), ofCRe);
  addSum(sumAt(s, s.sums, b, OF_C + 1, pair, channel), ofCIm);
}

// @ts-ignore: decorator
@inline
function addSum(address: usize, value: v128): void {
  v128.store(address, f32x4.add(v128.load(address), value));
}

/** Complex numbers [channel][pair] to vectors of channels in STATES; imaginary parts times `sign`. */
function gather(from: u32, stride: u32, s: Args, b: i32, channel: i32, lanes: i32, sign: f32): void {
  for (let lane = 0; lane < lanes; lane++) {
    const row = at(from, stride, b * s.channels + channel + lane, 0);
    for (let pair = 0; pair < s.pairs; pair++) {
      const to = scratch + STATES + ((<usize>pair) << 5) + ((<usize>lane) << 2);
      store<f32>(to, load<f32>(row + ((<usize>pair) << 3)));
      store<f32>(to, sign * load<f32>(row + ((<usize>pair) << 3), 4), 16);
    }
  }
}

function scatter(to: u32, stride: u32, s: Args, b: i32, channel: i32, lanes: i32): void {
  for (let lane = 0; lane < lanes; lane++) {
    const row = at(to, stride, b * s.channels + channel + lane, 0);
    for (let pair = 0; pair < s.pairs; pair++) {
      const from = scratch + STATES + ((<usize>pair) << 5) + ((<usize>lane) << 2);
      store<f32>(row + ((<usize>pair) << 3), load<f32>(from));
      store<f32>(row + ((<usize>pair) << 3), load<f32>(from, 16), 4);
    }
  }
}

/** Adds what is carried in STATES to the gradient of the initial state. */
function addStates(s: Args, b: i32, channel: i32, lanes: i32): void {
  for (let lane = 0; lane < lanes; lane++) {
    const row = at(s.gradInitial, s.gradInitialStride, b * s.channels + channel + lane, 0);
    for (let pair = 0; pair < s.pairs; pair++) {
      const from = scratch + STATES + ((<usize>pair) << 5) + ((<usize>lane) << 2);
      const to = row + ((<usize>pair) << 3);
      store<f32>(to, load<f32>(to) + load<f32>(from));
      store<f32>(to, load<f32>(to, 4) - load<f32>(from, 16), 4);
    }
  }
}

function loadTile(tile: usize, from: u32, stride: u32, row: i32, channel: i32, lanes: i32, count: i32): void {
  let address = at(from, stride, row, channel);
  for (const end = tile + ((<usize>count) << 4); tile < end; tile += 16) {
    v128.store(tile, loadLanes(address, lanes));
    address += <usize>stride << 2;
  }
}

function storeTile(tile: usize, to: u32, stride: u32, row: i32, channel: i32, lanes: i32, count: i32): void {
  let address = at(to, stride, row, channel);
  for (const end = tile + ((<usize>count) << 4); tile < end; tile += 16) {
    storeLanes(address, v128.load(tile), lanes);
    address += <usize>stride << 2;
  }
}

function addTile(tile: usize, to: u32, stride: u32, row: i32, channel: i32, lanes: i32, count: i32): void {
  let address = at(to, stride, row, channel);
  for (const end = tile + ((<usize>count) << 4); tile < end; tile += 16) {
    storeLanes(address, f32x4.add(loadLanes(address, lanes), v128.load(tile)), lanes);
    address += <usize>stride << 2;
  }
}
