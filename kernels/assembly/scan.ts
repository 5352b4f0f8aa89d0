// The selective scan, forward: softplus, recurrence, skip and gate in one pass over the sequence.
// Gu & Dao 2023, Alg. 2; formulas and measurements in src/ops/selective-scan/README.md.
//
// An item is one sequence and a run of channels of one group. It walks the sequence in chunks and takes four channels at
// a time: first dt and dt x (lanes over channels), then each channel's recurrence (lanes over states), then skip and gate
// (lanes over channels). No result depends on how channels are cut into items, nor on where a chunk ends: a channel goes
// through the same operations in the same order.
import { fma } from "./math";
import { nextItem, scratch, threads } from "./runtime";
import { at, CHUNK, largest, loadLanes, packRows, paddedStates, ScanArgs, storeLanes, sumsOf, unpackRows } from "./scan-args";
import { decays, recur, stepChannels16, TAME } from "./scan-steps";
import { powers, sigmoidSteps, softplusSteps } from "./scan-tile";

const LOG2_E: f32 = 1.44269504088896341;

/** Parts of an item's scratch memory. A tile is [CHUNK][4 channels]; rows of states have room for 256. */
const TILE: usize = <usize>CHUNK << 4;
const ROWS: usize = <usize>CHUNK << 10;
const DT: usize = 0;
const DTX: usize = DT + TILE;
const X: usize = DTX + TILE;
const LARGEST_DT: usize = X + TILE;
const PARTIAL: usize = LARGEST_DT + 64;
const A: usize = PARTIAL + 4 * TILE;
const H: usize = A + 4096;
const B: usize = H + 4096;
const C: usize = B + ROWS;
const DECAY: usize = C + ROWS;

/** args: ScanArgs. */
export function scan(args: usize): void {
  const s = changetype<ScanArgs>(args);
  const perGroup = s.dInner / s.groups;
  const size = itemChannels(s, perGroup);
  const runs = (perGroup + size - 1) / size;
  const items = s.batch * s.groups * runs;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const sequence = item / runs / s.groups;
    const group = (item / runs) % s.groups;
    const first = (item % runs) * size;
    const channel = group * perGroup + first;
    const count = min(size, perGroup - first);
    if (s.length == 1 && s.dState == 16 && !s.chunkStarts) stepChannels(s, sequence, group, channel, count);
    else scanChannels(s, sequence, group, channel, count);
  }
}

/** Channels of an item: few enough for every thread to get several, many enough to share the rows of B and C. */
function itemChannels(s: ScanArgs, perGroup: i32): i32 {
  const shares = s.length == 1 ? threads : threads * 8;
  return max(((s.batch * s.groups * perGroup) / shares + 15) & ~15, 16);
}

function scanChannels(s: ScanArgs, sequence: i32, group: i32, channel: i32, channels: i32): void {
  const states = paddedStates(s.dState);
  for (let first = 0; first < s.length; first += CHUNK) {
    const count = min(CHUNK, s.length - first);
    const row = sequence * s.length + first;
    packRows(at(s.BAddress, s.BStride, row, group * s.dState), s.BStride, scratch + B, count, s.dState, states);
    packRows(at(s.CAddress, s.CStride, row, group * s.dState), s.CStride, scratch + C, count, s.dState, states);
    for (let quad = channel; quad < channel + channels; quad += 4) {
      const lanes = min(4, channel + channels - quad);
      loadState(s, sequence, quad, lanes, first);
      prepareTile(
        s, at(s.xAddress, s.xStride, row, quad), <usize>s.xStride << 2, at(s.dtAddress, s.dtStride, row, quad), <usize>s.dtStride << 2,
        s.dtBias ? at(s.dtBias, 0, 0, quad) : 0, 0, lanes, count,
      );
      packRows(at(s.AAddress, s.AStride, quad, 0), s.AStride, scratch + A, lanes, s.dState, states);
      for (let lane = 0; lane < lanes; lane++) scanLane(s, sequence, lane, first, count);
      unpackRows(scratch + H, states, at(s.finalAddress, s.finalStride, sequence * s.dInner + quad, 0), s.finalStride, lanes, s.dState);
      finishTile(
        s.D ? at(s.D, 0, 0, quad) : 0, 0, s.zAddress ? at(s.zAddress, s.zStride, row, quad) : 0, <usize>s.zStride << 2,
        at(s.yAddress, s.yStride, row, quad), <usize>s.yStride << 2, lanes, count,
      );
    }
  }
}

/** The state before a chunk: the initial state, zeros, or the end of the chunk before. Saved for the backward pass. */
function loadState(s: ScanArgs, sequence: i32, quad: i32, lanes: i32, first: i32): void {
  const states = paddedStates(s.dState);
  const row = sequence * s.dInner + quad;
  if (first > 0) packRows(at(s.finalAddress, s.finalStride, row, 0), s.finalStride, scratch + H, lanes, s.dState, states);
  else if (s.initialAddress) packRows(at(s.initialAddress, s.initialStride, row, 0), s.initialStride, scratch + H, lanes, s.dState, states);
  else memory.fill(scratch + H, 0, (<usize>(lanes * states)) << 2);
  if (!s.chunkStarts) return;
  const chunks = (s.length + CHUNK - 1) / CHUNK;
  const saved = (sequence * chunks + first / CHUNK) * s.dInner + quad;
  unpackRows(scratch + H, states, at(s.chunkStarts, s.dState, saved, 0), s.dState, lanes, s.dState);
}

/**
 * The tiles dt * log2(e), dt * x and x of up to four channels, and the largest dt * log2(e) of each.
 * `row` steps of memory apart lie x and dtRaw, `next` the biases: over the steps of four channels, or, when decoding, over
 * the channels of one step.
 */
function prepareTile(s: ScanArgs, x: usize, xRow: usize, raw: usize, rawRow: usize, bias: usize, biasRow: usize, lanes: i32, count: i32): void {
  if (lanes == 4) prepareLanes(4, s, x, xRow, raw, rawRow, bias, biasRow, count);
  else prepareLanes(lanes, s, x, xRow, raw, rawRow, bias, biasRow, count);
}

// @ts-ignore: decorator
@inline
function prepareLanes(lanes: i32, s: ScanArgs, x: usize, xRow: usize, raw: usize, rawRow: usize, bias: usize, biasRow: usize, count: i32): void {
  const end = scratch + ((<usize>count) << 4);
  for (let to = scratch; to < end; to += 16) {
    v128.store(to, f32x4.add(loadLanes(raw, lanes), bias ? loadLanes(bias, lanes) : f32x4.splat(0)), DT);
    raw += rawRow;
    bias += biasRow;
  }
  if (s.softplus) {
    powers(scratch + DT, DTX - DT, count);
    softplusSteps(scratch + DT, DTX - DT, count);
  }
  let most = f32x4.splat(0);
  for (let to = scratch; to < end; to += 16) {
    const dt = v128.load(to, DT);
    const scaled = f32x4.mul(dt, f32x4.splat(LOG2_E));
    const input = loadLanes(x, lanes);
    most = f32x4.pmax(most, scaled);
    v128.store(to, scaled, DT);
    v128.store(to, f32x4.mul(dt, input), DTX);
    v128.store(to, input, X);
    x += xRow;
  }
  v128.store(scratch + LARGEST_DT, most);
}

/** Runs one channel over a chunk, from document to document. */
function scanLane(s: ScanArgs, sequence: i32, lane: i32, first: i32, count: i32): void {
  const states = paddedStates(s.dState);
  const rowOfLane = (<usize>(lane * states)) << 2;
  const column = (<usize>lane) << 2;
  const h = scratch + H + rowOfLane;
  const partial = scratch + PARTIAL + <usize>lane * TILE;
  const isTame = load<f32>(scratch + LARGEST_DT + column) * largest(scratch + A + rowOfLane, states) <= TAME;
  decays(count, states, scratch + A + rowOfLane, scratch + DT + column, scratch + DECAY, isTame);
  if (!s.startsAddress) return recur(count, states, h, scratch + DTX + column, scratch + DECAY, scratch + B, scratch + C, partial);
  for (let step = 0; step < count; ) {
    if (isStart(s, sequence, first + step)) memory.fill(h, 0, (<usize>states) << 2);
    const end = nextStart(s, sequence, first + step + 1, first + count) - first;
    const skip = (<usize>(step * states)) << 2;
    const steps = (<usize>step) << 4;
    recur(end - step, states, h, scratch + DTX + column + steps, scratch + DECAY + skip, scratch + B + skip, scratch + C + skip, partial + steps);
    step = end;
  }
}

export function isStart(s: ScanArgs, sequence: i32, step: i32): bool {
  return load<i32>(at(s.startsAddress, s.startsStride, sequence, step)) != 0;
}

/** The first step in [step, end) at which a document starts, or end. */
export function nextStart(s: ScanArgs, sequence: i32, step: i32, end: i32): i32 {
  while (step < end && !isStart(s, sequence, step)) step++;
  return step;
}

/** y = (C h + D x) silu(z), over the rows of a tile as {@link prepareTile} has them. */
function finishTile(D: usize, DRow: usize, z: usize, zRow: usize, y: usize, yRow: usize, lanes: i32, count: i32): void {
  if (z) sigmoidSteps(z, zRow, lanes, scratch + DT, count);
  if (lanes == 4) finishLanes(4, D, DRow, z, zRow, y, yRow, count);
  else finishLanes(lanes, D, DRow, z, zRow, y, yRow, count);
}

// @ts-ignore: decorator
@inline
function finishLanes(lanes: i32, D: usize, DRow: usize, z: usize, zRow: usize, y: usize, yRow: usize, count: i32): void {
  const end = scratch + ((<usize>count) << 4);
  for (let from = scratch; from < end; from += 16) {
    const Ch = sumsOf(
      v128.load(from, PARTIAL), v128.load(from, PARTIAL + TILE), v128.load(from, PARTIAL + 2 * TILE), v128.load(from, PARTIAL + 3 * TILE),
    );
    let value = fma(D ? loadLanes(D, lanes) : f32x4.splat(0), v128.load(from, X), Ch);
    if (z) {
      value = f32x4.mul(value, f32x4.mul(loadLanes(z, lanes), v128.load(from, DT)));
      z += zRow;
    }
    storeLanes(y, value, lanes);
    y += yRow;
    D += DRow;
  }
}

/** One step, the decoding of a model: up to CHUNK quads of channels at a time stand where else the steps of a quad do. */
function stepChannels(s: ScanArgs, sequence: i32, group: i32, channel: i32, channels: i32): void {
  const end = channel + channels;
  const whole = channel + (channels & ~3);
  while (channel < whole) {
    const quads = min(CHUNK, (whole - channel) >> 2);
    stepQuads(s, sequence, group, channel, quads, 4);
    channel += quads << 2;
  }
  if (channel < end) stepQuads(s, sequence, group, channel, 1, end - channel);
}

/** One step of 16 states: they go from tensor to tensor without a stop in scratch. */
function stepQuads(s: ScanArgs, sequence: i32, group: i32, channel: i32, quads: i32, lanes: i32): void {
  prepareTile(
    s, at(s.xAddress, s.xStride, sequence, channel), 16, at(s.dtAddress, s.dtStride, sequence, channel), 16,
    s.dtBias ? at(s.dtBias, 0, 0, channel) : 0, s.dtBias ? 16 : 0, lanes, quads,
  );
  const B = at(s.BAddress, s.BStride, sequence, group << 4);
  const C = at(s.CAddress, s.CStride, sequence, group << 4);
  const state = sequence * s.dInner + channel;
  const isFresh = !s.initialAddress || (s.startsAddress != 0 && isStart(s, sequence, 0));
  memory.fill(scratch + H, 0, 64);
  stepChannels16(
    (quads << 2) - 4 + lanes,
    at(s.AAddress, s.AStride, channel, 0), <usize>s.AStride << 2,
    isFresh ? scratch + H : at(s.initialAddress, s.initialStride, state, 0), isFresh ? 0 : <usize>s.initialStride << 2,
    at(s.finalAddress, s.finalStride, state, 0), <usize>s.finalStride << 2,
    scratch + DT, scratch + DTX, B, C, scratch + PARTIAL, TILE,
  );
  finishTile(
    s.D ? at(s.D, 0, 0, channel) : 0, s.D ? 16 : 0, s.zAddress ? at(s.zAddress, s.zStride, sequence, channel) : 0, 16,
    at(s.yAddress, s.yStride, sequence, channel), 16, lanes, quads,
  );
}
