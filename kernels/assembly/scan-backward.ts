// The selective scan, backward. Derivation in src/ops/selective-scan/README.md.
//
// An item is one sequence and a share of one group's channels. It walks the chunks from the last to the first, computes
// the states of a chunk again from the saved one before it, and carries the adjoint of the state. Sums over channels (for
// B and C) and over sequences (for A, D and the bias of dt) go to workspace, share by share, and a second kernel adds
// them up in one order: no result depends on the number of threads.
import { fma } from "./math";
import { nextItem, scratch } from "./runtime";
import { isStart, nextStart } from "./scan";
import { at, CHUNK, largest, loadLanes, packRows, paddedStates, ScanBackwardArgs, storeLanes, sumsOf, unpackRows } from "./scan-args";
import { recompute, reverse } from "./scan-backward-steps";
import { decays, TAME } from "./scan-steps";
import { powers, sigmoidSteps, softplusSteps } from "./scan-tile";

const LOG2_E: f32 = 1.44269504088896341;

/** Parts of an item's scratch memory. A tile is [CHUNK][4 channels]; rows of states have room for 256. */
const TILE: usize = <usize>CHUNK << 4;
const ROWS: usize = <usize>CHUNK << 10;
const SCALED_DT: usize = 0;
const DT: usize = SCALED_DT + TILE;
const DTX: usize = DT + TILE;
const X: usize = DTX + TILE;
const SLOPE: usize = X + TILE;
const GRAD_OUT: usize = SLOPE + TILE;
const GRAD_GATE: usize = GRAD_OUT + TILE;
const LARGEST_DT: usize = GRAD_GATE + TILE;
const PARTIAL_Y: usize = LARGEST_DT + 64;
const PARTIAL_B: usize = PARTIAL_Y + 4 * TILE;
const PARTIAL_A: usize = PARTIAL_B + 4 * TILE;
const A: usize = PARTIAL_A + 4 * TILE;
const H: usize = A + 4096;
const B: usize = H + 4096;
const C: usize = B + ROWS;
const GRAD_B: usize = C + ROWS;
const GRAD_C: usize = GRAD_B + ROWS;
const DECAY: usize = GRAD_C + ROWS;
const BEFORE: usize = DECAY + ROWS;

/** args: ScanBackwardArgs. */
export function scanBackward(args: usize): void {
  const s = changetype<ScanBackwardArgs>(args);
  const perGroup = s.dInner / s.groups;
  const size = ((((perGroup + 3) >> 2) + s.shares - 1) / s.shares) << 2;
  const items = s.batch * s.groups * s.shares;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const group = (item / s.shares) % s.groups;
    const share = item % s.shares;
    const first = share * size;
    walkBack(s, item / s.shares / s.groups, group, share, group * perGroup + first, min(size, perGroup - first));
  }
}

function walkBack(s: ScanBackwardArgs, sequence: i32, group: i32, share: i32, channel: i32, channels: i32): void {
  const states = paddedStates(s.dState);
  const chunks = (s.length + CHUNK - 1) / CHUNK;
  const width = 2 * s.groups * s.dState;
  for (let chunk = chunks - 1; chunk >= 0; chunk--) {
    const first = chunk * CHUNK;
    const count = min(CHUNK, s.length - first);
    const row = sequence * s.length + first;
    packRows(at(s.BAddress, s.BStride, row, group * s.dState), s.BStride, scratch + B, count, s.dState, states);
    packRows(at(s.CAddress, s.CStride, row, group * s.dState), s.CStride, scratch + C, count, s.dState, states);
    memory.fill(scratch + GRAD_B, 0, (<usize>(count * states)) << 2);
    memory.fill(scratch + GRAD_C, 0, (<usize>(count * states)) << 2);
    for (let quad = channel; quad < channel + channels; quad += 4) {
      const lanes = min(4, channel + channels - quad);
      const saved = (sequence * chunks + chunk) * s.dInner + quad;
      packRows(at(s.chunkStarts, s.dState, saved, 0), s.dState, scratch + H, lanes, s.dState, states);
      packRows(at(s.AAddress, s.AStride, quad, 0), s.AStride, scratch + A, lanes, s.dState, states);
      if (chunk == chunks - 1) openSums(s, sequence, quad, lanes);
      prepareTile(s, row, quad, lanes, count);
      for (let lane = 0; lane < lanes; lane++) walkLane(s, sequence, quad, lane, first, count);
      finishTile(s, sequence, row, quad, lanes, count);
      if (chunk == 0 && s.gradInitialAddress) addInitial(s, sequence, quad, lanes);
    }
    const sums = at(s.sumsBC, width, share * s.batch * s.length + row, group * s.dState);
    unpackRows(scratch + GRAD_B, states, sums, width, count, s.dState);
    unpackRows(scratch + GRAD_C, states, sums + ((<usize>width) << 1), width, count, s.dState);
  }
}

/** Elements of workspace a channel. */
// @ts-ignore: decorator
@inline
function sumsRow(s: ScanBackwardArgs): i32 {
  return 2 * paddedStates(s.dState) + 4;
}

/** A channel's adjoint of the state; gradA lies `states` elements behind, gradD and gradDtBias behind that. */
// @ts-ignore: decorator
@inline
function sumsOfChannel(s: ScanBackwardArgs, sequence: i32, channel: i32): usize {
  return at(s.sumsOfChannels, sumsRow(s), sequence * s.dInner + channel, 0);
}

/** Before the last chunk: the adjoint is the gradient of the final state, all sums are zero. */
function openSums(s: ScanBackwardArgs, sequence: i32, quad: i32, lanes: i32): void {
  const row = sumsRow(s);
  const sums = sumsOfChannel(s, sequence, quad);
  memory.fill(sums, 0, (<usize>(lanes * row)) << 2);
  if (!s.gradFinalAddress) return;
  for (let lane = 0; lane < lanes; lane++)
    packRows(
      at(s.gradFinalAddress, s.gradFinalStride, sequence * s.dInner + quad + lane, 0), 0,
      sums + ((<usize>(lane * row)) << 2), 1, s.dState, paddedStates(s.dState),
    );
}

/** After the first chunk the adjoint is the gradient of the initial state. */
function addInitial(s: ScanBackwardArgs, sequence: i32, quad: i32, lanes: i32): void {
  for (let lane = 0; lane < lanes; lane++)
    addRow(
      sumsOfChannel(s, sequence, quad + lane),
      at(s.gradInitialAddress, s.gradInitialStride, sequence * s.dInner + quad + lane, 0), s.dState,
    );
}

function addRow(from: usize, to: usize, columns: i32): void {
  for (let column = 0; column < columns; column += 4) {
    const lanes = columns - column;
    const skip = (<usize>column) << 2;
    storeLanes(to + skip, f32x4.add(loadLanes(to + skip, lanes), loadLanes(from + skip, lanes)), lanes);
  }
}

/** The tiles of up to four channels: dt, dt * log2(e), dt * x, x, the slope of softplus, and gradY through the gate. */
function prepareTile(s: ScanBackwardArgs, row: i32, quad: i32, lanes: i32, count: i32): void {
  const end = scratch + ((<usize>count) << 4);
  const bias = s.dtBias ? loadLanes(at(s.dtBias, 0, 0, quad), lanes) : f32x4.splat(0);
  let raw = at(s.dtAddress, s.dtStride, row, quad);
  for (let to = scratch; to < end; to += 16) {
    v128.store(to, f32x4.add(loadLanes(raw, lanes), bias), DT);
    raw += <usize>s.dtStride << 2;
  }
  if (s.softplus) {
    powers(scratch + DT, SLOPE - DT, count);
    slopes(end);
    softplusSteps(scratch + DT, DTX - DT, count);
  }
  let x = at(s.xAddress, s.xStride, row, quad);
  let most = f32x4.splat(0);
  for (let to = scratch; to < end; to += 16) {
    const dt = v128.load(to, DT);
    const scaled = f32x4.mul(dt, f32x4.splat(LOG2_E));
    const input = loadLanes(x, lanes);
    most = f32x4.pmax(most, scaled);
    v128.store(to, scaled, SCALED_DT);
    v128.store(to, f32x4.mul(dt, input), DTX);
    v128.store(to, input, X);
    x += <usize>s.xStride << 2;
  }
  v128.store(scratch + LARGEST_DT, most);
  prepareGate(s, row, quad, lanes, count);
}

/** From e^-|value|: sigmoid(value) in its place, and the power itself where dt * x will lie. */
function slopes(end: usize): void {
  const one = f32x4.splat(1);
  for (let to = scratch; to < end; to += 16) {
    const power = v128.load(to, SLOPE);
    const top = v128.bitselect(power, one, f32x4.lt(v128.load(to, DT), f32x4.splat(0)));
    v128.store(to, power, DTX);
    v128.store(to, f32x4.div(top, f32x4.add(power, one)), SLOPE);
  }
}

/** gradOut = gradY silu(z), the gradient of y before the gate; and gradY silu'(z), which that y makes into gradZ. */
function prepareGate(s: ScanBackwardArgs, row: i32, quad: i32, lanes: i32, count: i32): void {
  const one = f32x4.splat(1);
  const zRow = <usize>s.zStride << 2;
  let z = s.zAddress ? at(s.zAddress, s.zStride, row, quad) : 0;
  let gradY = s.gradYAddress ? at(s.gradYAddress, s.gradYStride, row, quad) : 0;
  if (z) sigmoidSteps(z, zRow, lanes, scratch + GRAD_GATE, count);
  for (let to = scratch, end = scratch + ((<usize>count) << 4); to < end; to += 16) {
    const grad = gradY ? loadLanes(gradY, lanes) : f32x4.splat(0);
    let out = grad;
    if (z) {
      const gate = loadLanes(z, lanes);
      const bend = v128.load(to, GRAD_GATE);
      out = f32x4.mul(grad, f32x4.mul(gate, bend));
      v128.store(to, f32x4.mul(grad, f32x4.mul(bend, fma(gate, f32x4.sub(one, bend), one))), GRAD_GATE);
      z += zRow;
    }
    v128.store(to, out, GRAD_OUT);
    gradY += gradY ? <usize>s.gradYStride << 2 : 0;
  }
}

/** One channel over a chunk: the states again, from document to document, then back. */
function walkLane(s: ScanBackwardArgs, sequence: i32, quad: i32, lane: i32, first: i32, count: i32): void {
  const states = paddedStates(s.dState);
  const rowOfLane = (<usize>(lane * states)) << 2;
  const column = (<usize>lane) << 2;
  const isTame = load<f32>(scratch + LARGEST_DT + column) * largest(scratch + A + rowOfLane, states) <= TAME;
  decays(count, states, scratch + A + rowOfLane, scratch + SCALED_DT + column, scratch + DECAY, isTame);
  for (let step = 0; step < count; ) {
    const h = scratch + H + rowOfLane;
    if (s.startsAddress && isStart(s, sequence, first + step)) memory.fill(h, 0, (<usize>states) << 2);
    const end = s.startsAddress ? nextStart(s, sequence, first + step + 1, first + count) - first : count;
    const skip = (<usize>(step * states)) << 2;
    const steps = column + ((<usize>step) << 4);
    recompute(
      end - step, states, h, scratch + DTX + steps, scratch + GRAD_OUT + steps, scratch + DECAY + skip, scratch + B + skip, scratch + C + skip,
      scratch + BEFORE + skip, scratch + GRAD_C + skip, scratch + PARTIAL_Y + <usize>lane * TILE + steps - column,
    );
    step = end;
  }
  const adjoint = sumsOfChannel(s, sequence, quad + lane);
  for (let end = count; end > 0; ) {
    let step = s.startsAddress ? end - 1 : 0;
    while (step > 0 && !isStart(s, sequence, first + step)) step--;
    const skip = (<usize>(step * states)) << 2;
    const steps = column + ((<usize>step) << 4);
    const partial = scratch + <usize>lane * TILE + steps - column;
    reverse(
      end - step, states, scratch + A + rowOfLane, adjoint, adjoint + ((<usize>states) << 2), scratch + DT + steps, scratch + DTX + steps, scratch + GRAD_OUT + steps,
      scratch + DECAY + skip, scratch + B + skip, scratch + C + skip, scratch + BEFORE + skip, scratch + GRAD_B + skip, partial + PARTIAL_B, partial + PARTIAL_A,
    );
    if (s.startsAddress && isStart(s, sequence, first + step)) memory.fill(adjoint, 0, (<usize>states) << 2);
    end = step;
  }
}

/** Gradients of x, dtRaw and z of up to four channels, and their part in those of D and dtBias. */
function finishTile(s: ScanBackwardArgs, sequence: i32, row: i32, quad: i32, lanes: i32, count: i32): void {
  const D = s.D ? loadLanes(at(s.D, 0, 0, quad), lanes) : f32x4.splat(0);
  let gradX = s.gradXAddress ? at(s.gradXAddress, s.gradXStride, row, quad) : 0;
  let gradDt = s.gradDtAddress ? at(s.gradDtAddress, s.gradDtStride, row, quad) : 0;
  let gradZ = s.gradZAddress ? at(s.gradZAddress, s.gradZStride, row, quad) : 0;
  let sumD = f32x4.splat(0);
  let sumBias = f32x4.splat(0);
  for (let step = 0; step < count; step++) {
    const from = scratch + ((<usize>step) << 4);
    const x = v128.load(from, X);
    const out = v128.load(from, GRAD_OUT);
    const gB = sums(from + PARTIAL_B);
    if (gradX) {
      const grad = fma(v128.load(from, DT), gB, f32x4.mul(D, out));
      storeLanes(gradX, f32x4.add(loadLanes(gradX, lanes), grad), lanes);
      gradX += <usize>s.gradXStride << 2;
    }
    let gradRaw = fma(x, gB, sums(from + PARTIAL_A));
    if (s.softplus) gradRaw = f32x4.mul(gradRaw, v128.load(from, SLOPE));
    if (gradDt) {
      storeLanes(gradDt, f32x4.add(loadLanes(gradDt, lanes), gradRaw), lanes);
      gradDt += <usize>s.gradDtStride << 2;
    }
    if (gradZ) {
      const y = fma(D, x, sums(from + PARTIAL_Y));
      storeLanes(gradZ, fma(v128.load(from, GRAD_GATE), y, loadLanes(gradZ, lanes)), lanes);
      gradZ += <usize>s.gradZStride << 2;
    }
    sumBias = f32x4.add(sumBias, gradRaw);
    sumD = fma(out, x, sumD);
  }
  v128.store(scratch + LARGEST_DT, sumD);
  v128.store(scratch + LARGEST_DT, sumBias, 16);
  for (let lane = 0; lane < lanes; lane++) {
    const to = sumsOfChannel(s, sequence, quad + lane) + ((<usize>paddedStates(s.dState)) << 3);
    const from = scratch + LARGEST_DT + ((<usize>lane) << 2);
    store<f32>(to, load<f32>(to) + load<f32>(from));
    store<f32>(to, load<f32>(to, 4) + load<f32>(from, 16), 4);
  }
}

// @ts-ignore: decorator
@inline
function sums(partial: usize): v128 {
  return sumsOf(v128.load(partial), v128.load(partial, TILE), v128.load(partial, 2 * TILE), v128.load(partial, 3 * TILE));
}

/** Rows, or channels, an item of scanReduce. */
const REDUCED: i32 = 64;

/** Adds the sums in workspace to the gradients of B, C, A, D and dtBias. args: ScanBackwardArgs. */
export function scanReduce(args: usize): void {
  const s = changetype<ScanBackwardArgs>(args);
  const rows = s.batch * s.length;
  const rowItems = (rows + REDUCED - 1) / REDUCED;
  const channelItems = (s.dInner + REDUCED - 1) / REDUCED;
  for (let item = nextItem(); item < rowItems + channelItems; item = nextItem()) {
    if (item < rowItems) {
      for (let row = item * REDUCED, end = min(rows, row + REDUCED); row < end; row++) reduceRow(s, row, rows);
    } else {
      const first = (item - rowItems) * REDUCED;
      for (let channel = first, end = min(s.dInner, first + REDUCED); channel < end; channel++) reduceChannel(s, channel);
    }
  }
}

function reduceRow(s: ScanBackwardArgs, row: i32, rows: i32): void {
  const width = s.groups * s.dState;
  for (let share = 0; share < s.shares; share++) {
    const sums = at(s.sumsBC, 2 * width, share * rows + row, 0);
    if (s.gradBAddress) addRow(sums, at(s.gradBAddress, s.gradBStride, row, 0), width);
    if (s.gradCAddress) addRow(sums + ((<usize>width) << 2), at(s.gradCAddress, s.gradCStride, row, 0), width);
  }
}

function reduceChannel(s: ScanBackwardArgs, channel: i32): void {
  const states = (<usize>paddedStates(s.dState)) << 2;
  for (let sequence = 0; sequence < s.batch; sequence++) {
    const sums = sumsOfChannel(s, sequence, channel);
    if (s.gradAAddress) addRow(sums + states, at(s.gradAAddress, s.gradAStride, channel, 0), s.dState);
    if (s.gradD) addScalar(sums + (states << 1), at(s.gradD, 0, 0, channel));
    if (s.gradDtBias) addScalar(sums + (states << 1) + 4, at(s.gradDtBias, 0, 0, channel));
  }
}

function addScalar(from: usize, to: usize): void {
  store<f32>(to, load<f32>(to) + load<f32>(from));
}
