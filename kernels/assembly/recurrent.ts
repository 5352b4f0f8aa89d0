// lstm and gru forward: the product of the state with the weight, and the cells, token by token. An item is a block of
// sequences and a block of units, over tokens [first, end); with several blocks of units, one token a command.
// Formulas: src/ops/lstm/README.md and src/ops/gru/README.md.
import { rowOf } from "./add";
import { fma, sigmoid, sum4, tanh } from "./math";
import { nextItem, scratch } from "./runtime";

/** Gates of an lstm; a gru has three. */
const LSTM: i32 = 4;
/** Numbers a unit keeps for the backward pass. */
const KEPT: i32 = 4;

/**
 * args: gates of a unit (4: lstm, 3: gru), gates, gatesStride, weight, weightStride, bias (0: none), starts (0: none),
 * startsStride, before (h and, of an lstm, c behind it, by sequence and slot), y, yStride, activated (0: not wanted),
 * finalH, finalHStride, finalC, finalCStride, batch, length, slots, dHidden, first, end, rowsPerItem, unitsPerItem.
 */
export function recurrentForward(args: usize): void {
  const batch = load<i32>(args, 64);
  const dHidden = load<i32>(args, 76);
  const first = load<i32>(args, 80);
  const end = load<i32>(args, 84);
  const rowsPerItem = load<i32>(args, 88);
  const unitsPerItem = load<i32>(args, 92);
  const unitBlocks = (dHidden + unitsPerItem - 1) / unitsPerItem;
  const items = ((batch + rowsPerItem - 1) / rowsPerItem) * unitBlocks;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const row = (item / unitBlocks) * rowsPerItem;
    const rowEnd = min(batch, row + rowsPerItem);
    const unit = (item % unitBlocks) * unitsPerItem;
    const unitEnd = min(dHidden, unit + unitsPerItem);
    for (let t = first; t < end; t++) stepBlock(args, t, row, rowEnd, unit, unitEnd);
  }
}

/** Address of the state before token t. */
// @ts-ignore: decorator
@inline
function stateAt(args: usize, sequence: i32, t: i32): usize {
  const slots = load<i32>(args, 72);
  const width = load<i32>(args, 76) * (load<i32>(args) == LSTM ? 2 : 1);
  return <usize>load<u32>(args, 32) + ((<usize>(sequence * slots + t % slots) * width) << 2);
}

/** Token t of some sequences and units. The sums of a sequence lie in scratch, gate by gate. */
function stepBlock(args: usize, t: i32, row: i32, rowEnd: i32, unit: i32, unitEnd: i32): void {
  const gates = load<i32>(args);
  const dHidden = load<i32>(args, 76);
  const units = unitEnd - unit;
  const sumsBytes = <usize>(gates * units) << 2;
  // Four rows of the weight at a time serve all sequences of the block, two by two.
  for (let gate = 0; gate < gates; gate++)
    for (let u = 0; u < units; u += 4) {
      const weight = rowOf(args, 12, gate * dHidden + unit + u);
      const weightStride = <usize>load<u32>(args, 16) << 2;
      const count = min(4, units - u);
      for (let sequence = row; sequence < rowEnd; sequence += 2) {
        const sums = scratch + <usize>(sequence - row) * sumsBytes + (<usize>(gate * units + u) << 2);
        const h = stateAt(args, sequence, t);
        if (sequence + 1 < rowEnd) {
          const h1 = stateAt(args, sequence + 1, t);
          if (count == 4) dotsOfTwo(weight, weightStride, h, h1, dHidden, sums, sums + sumsBytes);
          else {
            dots(weight, weightStride, h, dHidden, sums, count);
            dots(weight, weightStride, h1, dHidden, sums + sumsBytes, count);
          }
        } else dots(weight, weightStride, h, dHidden, sums, count);
      }
    }
  for (let sequence = row; sequence < rowEnd; sequence++)
    cells(args, t, sequence, unit, units, scratch + <usize>(sequence - row) * sumsBytes);
}

/** Products of four rows of the weight with two states. Each sum has the order of {@link dot}. */
function dotsOfTwo(weight: usize, stride: usize, h: usize, h1: usize, count: i32, sums: usize, sums1: usize): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
  let b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  let k = 0;
  for (; k + 4 <= count; k += 4) {
    const at = weight + (<usize>k << 2);
    const x = v128.load(h + (<usize>k << 2));
    const z = v128.load(h1 + (<usize>k << 2));
    const w0 = v128.load(at);
    const w1 = v128.load(at + stride);
    const w2 = v128.load(at + 2 * stride);
    const w3 = v128.load(at + 3 * stride);
    a0 = fma(w0, x, a0);
    a1 = fma(w1, x, a1);
    a2 = fma(w2, x, a2);
    a3 = fma(w3, x, a3);
    b0 = fma(w0, z, b0);
    b1 = fma(w1, z, b1);
    b2 = fma(w2, z, b2);
    b3 = fma(w3, z, b3);
  }
  for (; k < count; k++) {
    const at = weight + (<usize>k << 2);
    const x = v128.load32_zero(h + (<usize>k << 2));
    const z = v128.load32_zero(h1 + (<usize>k << 2));
    a0 = fma(v128.load32_zero(at), x, a0);
    a1 = fma(v128.load32_zero(at + stride), x, a1);
    a2 = fma(v128.load32_zero(at + 2 * stride), x, a2);
    a3 = fma(v128.load32_zero(at + 3 * stride), x, a3);
    b0 = fma(v128.load32_zero(at), z, b0);
    b1 = fma(v128.load32_zero(at + stride), z, b1);
    b2 = fma(v128.load32_zero(at + 2 * stride), z, b2);
    b3 = fma(v128.load32_zero(at + 3 * stride), z, b3);
  }
  store<f32>(sums, sum4(a0));
  store<f32>(sums, sum4(a1), 4);
  store<f32>(sums, sum4(a2), 8);
  store<f32>(sums, sum4(a3), 12);
  store<f32>(sums1, sum4(b0));
  store<f32>(sums1, sum4(b1), 4);
  store<f32>(sums1, sum4(b2), 8);
  store<f32>(sums1, sum4(b3), 12);
}

/** Products of one to four rows of the weight with one state. */
function dots(weight: usize, stride: usize, h: usize, count: i32, sums: usize, rows: i32): void {
  if (rows < 4) {
    for (let i = 0; i < rows; i++) store<f32>(sums + (<usize>i << 2), dot(weight + <usize>i * stride, h, count));
    return;
  }
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
  let k = 0;
  for (; k + 4 <= count; k += 4) {
    const at = weight + (<usize>k << 2);
    const x = v128.load(h + (<usize>k << 2));
    a0 = fma(v128.load(at), x, a0);
    a1 = fma(v128.load(at + stride), x, a1);
    a2 = fma(v128.load(at + 2 * stride), x, a2);
    a3 = fma(v128.load(at + 3 * stride), x, a3);
  }
  for (; k < count; k++) {
    const at = weight + (<usize>k << 2);
    const x = v128.load32_zero(h + (<usize>k << 2));
    a0 = fma(v128.load32_zero(at), x, a0);
    a1 = fma(v128.load32_zero(at + stride), x, a1);
    a2 = fma(v128.load32_zero(at + 2 * stride), x, a2);
    a3 = fma(v128.load32_zero(at + 3 * stride), x, a3);
  }
  store<f32>(sums, sum4(a0));
  store<f32>(sums, sum4(a1), 4);
  store<f32>(sums, sum4(a2), 8);
  store<f32>(sums, sum4(a3), 12);
}

function dot(weight: usize, h: usize, count: i32): f32 {
  let sum = f32x4.splat(0);
  let k = 0;
  for (; k + 4 <= count; k += 4) sum = fma(v128.load(weight + (<usize>k << 2)), v128.load(h + (<usize>k << 2)), sum);
  for (; k < count; k++)
    sum = fma(v128.load32_zero(weight + (<usize>k << 2)), v128.load32_zero(h + (<usize>k << 2)), sum);
  return sum4(sum);
}

/** Where a cell's numbers lie, from the first unit of a block on; gates are `gateBytes` apart, sums `sumsBytes`. */
let own: usize = 0;
let gateBytes: usize = 0;
let sumsBytes: usize = 0;
let biases: usize = 0;
let before: usize = 0;
let y: usize = 0;
let kept: usize = 0;
let nextH: usize = 0;
let nextC: usize = 0;

function cells(args: usize, t: i32, sequence: i32, unit: i32, units: i32, sums: usize): void {
  const isLstm = load<i32>(args) == LSTM;
  const length = load<i32>(args, 68);
  const dHidden = load<i32>(args, 76);
  const row = sequence * length + t;
  const offset = <usize>unit << 2;
  gateBytes = <usize>dHidden << 2;
  sumsBytes = <usize>units << 2;
  own = rowOf(args, 4, row) + offset;
  biases = <usize>load<u32>(args, 20) + offset;
  before = stateAt(args, sequence, t) + offset;
  y = rowOf(args, 36, row) + offset;
  const activated = <usize>load<u32>(args, 44);
  kept = activated ? activated + <usize>row * KEPT * gateBytes + offset : 0;
  const isLast = t + 1 == length;
  nextH = (isLast ? rowOf(args, 48, sequence) : stateAt(args, sequence, t + 1)) + offset;
  nextC = isLast ? (isLstm ? rowOf(args, 56, sequence) + offset : 0) : nextH + gateBytes;
  let u = 0;
  if (isLstm) {
    for (; u + 4 <= units; u += 4) lstmCell(<usize>u << 2, sums, true);
    for (; u < units; u++) lstmCell(<usize>u << 2, sums, false);
  } else {
    for (; u + 4 <= units; u += 4) gruCell(<usize>u << 2, sums, true);
    for (; u < units; u++) gruCell(<usize>u << 2, sums, false);
  }
  const starts = load<u32>(args, 24);
  if (isLast || !starts || !load<i32>(rowOf(args, 24, sequence) + (<usize>(t + 1) << 2))) return;
  memory.fill(nextH, 0, sumsBytes);
  if (isLstm) memory.fill(nextC, 0, sumsBytes);
}

/** Four units, or one, with the same bits. */
// @ts-ignore: decorator
@inline
export function read(at: usize, isWhole: bool): v128 {
  return isWhole ? v128.load(at) : v128.load32_zero(at);
}

// @ts-ignore: decorator
@inline
export function write(at: usize, value: v128, isWhole: bool): void {
  if (isWhole) v128.store(at, value);
  else v128.store32_lane(at, value, 0);
}

// @ts-ignore: decorator
@inline
function lstmCell(at: usize, sums: usize, isWhole: bool): void {
  const i = sigmoid(f32x4.add(read(own + at, isWhole), read(sums + at, isWhole)));
  const f = sigmoid(f32x4.add(read(own + gateBytes + at, isWhole), read(sums + sumsBytes + at, isWhole)));
  const g = tanh(f32x4.add(read(own + 2 * gateBytes + at, isWhole), read(sums + 2 * sumsBytes + at, isWhole)));
  const o = sigmoid(f32x4.add(read(own + 3 * gateBytes + at, isWhole), read(sums + 3 * sumsBytes + at, isWhole)));
  const c = fma(f, read(before + gateBytes + at, isWhole), f32x4.mul(i, g));
  const h = f32x4.mul(o, tanh(c));
  write(y + at, h, isWhole);
  write(nextH + at, h, isWhole);
  write(nextC + at, c, isWhole);
  if (kept) keep(at, i, f, g, o, isWhole);
}

// @ts-ignore: decorator
@inline
function gruCell(at: usize, sums: usize, isWhole: bool): void {
  const rSum = f32x4.add(read(sums + at, isWhole), read(biases + at, isWhole));
  const zSum = f32x4.add(read(sums + sumsBytes + at, isWhole), read(biases + gateBytes + at, isWhole));
  const u = f32x4.add(read(sums + 2 * sumsBytes + at, isWhole), read(biases + 2 * gateBytes + at, isWhole));
  const r = sigmoid(f32x4.add(read(own + at, isWhole), rSum));
  const z = sigmoid(f32x4.add(read(own + gateBytes + at, isWhole), zSum));
  const n = tanh(fma(r, u, read(own + 2 * gateBytes + at, isWhole)));
  const h = fma(z, f32x4.sub(read(before + at, isWhole), n), n);
  write(y + at, h, isWhole);
  write(nextH + at, h, isWhole);
  if (kept) keep(at, r, z, n, u, isWhole);
}

// @ts-ignore: decorator
@inline
function keep(at: usize, a: v128, b: v128, c: v128, d: v128, isWhole: bool): void {
  write(kept + at, a, isWhole);
  write(kept + gateBytes + at, b, isWhole);
  write(kept + 2 * gateBytes + at, c, isWhole);
  write(kept + 3 * gateBytes + at, d, isWhole);
}

/**
 * The state before the first token: a copy of the initial one, zeros where there is none or a document starts.
 * args: state (0: none), stateStride, starts (0: none), startsStride, before, beforeStride, batch, dHidden.
 */
export function recurrentBegin(args: usize): void {
  const batch = load<i32>(args, 24);
  const bytes = <usize>load<u32>(args, 28) << 2;
  for (let sequence = nextItem(); sequence < batch; sequence = nextItem()) {
    const isForgotten = load<u32>(args, 8) != 0 && load<i32>(rowOf(args, 8, sequence)) != 0;
    if (load<u32>(args) == 0 || isForgotten) memory.fill(rowOf(args, 16, sequence), 0, bytes);
    else memory.copy(rowOf(args, 16, sequence), rowOf(args, 0, sequence), bytes);
  }
}
