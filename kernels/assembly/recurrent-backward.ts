// lstm and gru backward: from the last token to the first, the gates' gradients and their product with the weight. Items
// are those of recurrent.ts; the weight's own gradient is one product afterwards.
import { rowOf } from "./add";
import { fma, fnma, tanh } from "./math";
import { read, write } from "./recurrent";
import { nextItem, scratch } from "./runtime";

const LSTM: i32 = 4;
const KEPT: i32 = 4;

/**
 * args: gates of a unit (4: lstm, 3: gru), weight, weightStride, starts (0: none), startsStride, before (the state before
 * each token), activated, gradY (0: none), gradYStride, finalH (its gradient; 0: none), finalHStride, carry `[batch, dHidden]`
 * (what a token hands to the one before beside the product), pulled (gradients of what the gates get from the state, by
 * token), gradGates (0: not wanted), gradGatesStride, gradH (of the initial state; 0: not wanted), gradHStride, batch,
 * length, dHidden, first, end, rowsPerItem, unitsPerItem. Tokens end - 1 down to first, where -1 stands for the initial state.
 */
export function recurrentBackward(args: usize): void {
  const batch = load<i32>(args, 68);
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
    for (let t = end - 1; t >= first; t--) stepBlock(args, t, row, rowEnd, unit, unitEnd);
  }
}

/** Address of the gradients of a token's gates. */
// @ts-ignore: decorator
@inline
function pulledAt(args: usize, row: i32): usize {
  const width = load<i32>(args) * load<i32>(args, 76);
  return <usize>load<u32>(args, 48) + ((<usize>row * width) << 2);
}

/** Token t of some sequences and units. What the token behind hands to a sequence's state lies in scratch. */
function stepBlock(args: usize, t: i32, row: i32, rowEnd: i32, unit: i32, unitEnd: i32): void {
  const length = load<i32>(args, 72);
  const units = unitEnd - unit;
  const bytes = <usize>units << 2;
  if (t + 1 < length) {
    // A strip of the weight's columns at a time serves all sequences of the block.
    for (let u = 0; u < units; ) {
      const count = units - u >= 16 ? 16 : units - u >= 4 ? 4 : 1;
      const weight = <usize>load<u32>(args, 4) + (<usize>(unit + u) << 2);
      for (let sequence = row; sequence < rowEnd; sequence++)
        pull(args, weight, pulledAt(args, sequence * length + t + 1), scratch + <usize>(sequence - row) * bytes + (<usize>u << 2), count);
      u += count;
    }
  }
  for (let sequence = row; sequence < rowEnd; sequence++) {
    const through = scratch + <usize>(sequence - row) * bytes;
    if (t + 1 == length) {
      if (load<u32>(args, 36)) memory.copy(through, rowOf(args, 36, sequence) + (<usize>unit << 2), bytes);
      else memory.fill(through, 0, bytes);
    } else if (isStart(args, sequence, t + 1)) memory.fill(through, 0, bytes);
    if (t < 0) initial(args, sequence, unit, units, through);
    else cells(args, t, sequence, unit, units, through);
  }
}

function isStart(args: usize, sequence: i32, t: i32): bool {
  return load<u32>(args, 12) != 0 && load<i32>(rowOf(args, 12, sequence) + (<usize>t << 2)) != 0;
}

/** sums[u] = Σ over gates of grads[gate] weight[gate][u], for 16, 4 or 1 units; a sum has one order in all cases. */
function pull(args: usize, weight: usize, grads: usize, sums: usize, count: i32): void {
  const stride = <usize>load<u32>(args, 8) << 2;
  const end = grads + (<usize>(load<i32>(args) * load<i32>(args, 76)) << 2);
  let a = f32x4.splat(0), b = a, c = a, d = a;
  if (count == 16) {
    for (; grads < end; grads += 4, weight += stride) {
      const grad = v128.load32_splat(grads);
      a = fma(grad, v128.load(weight), a);
      b = fma(grad, v128.load(weight, 16), b);
      c = fma(grad, v128.load(weight, 32), c);
      d = fma(grad, v128.load(weight, 48), d);
    }
    v128.store(sums, a);
    v128.store(sums, b, 16);
    v128.store(sums, c, 32);
    v128.store(sums, d, 48);
  } else if (count == 4) {
    for (; grads < end; grads += 4, weight += stride) a = fma(v128.load32_splat(grads), v128.load(weight), a);
    v128.store(sums, a);
  } else {
    for (; grads < end; grads += 4, weight += stride) a = fma(v128.load32_splat(grads), v128.load32_zero(weight), a);
    v128.store32_lane(sums, a, 0);
  }
}

/** gradH += what the first token hands on. */
function initial(args: usize, sequence: i32, unit: i32, units: i32, through: usize): void {
  const isGru = load<i32>(args) != LSTM;
  const gradH = rowOf(args, 60, sequence) + (<usize>unit << 2);
  const carry = carryAt(args, sequence, unit);
  for (let u = 0; u < units; u++) {
    const at = <usize>u << 2;
    const value = load<f32>(through + at) + (isGru ? load<f32>(carry + at) : 0);
    store<f32>(gradH + at, load<f32>(gradH + at) + value);
  }
}

function carryAt(args: usize, sequence: i32, unit: i32): usize {
  return <usize>load<u32>(args, 44) + (<usize>(sequence * load<i32>(args, 76) + unit) << 2);
}

/** Where a cell's numbers lie, from the first unit of a block on; gates are `gateBytes` apart. */
let gateBytes: usize = 0;
let kept: usize = 0;
let before: usize = 0;
let gradY: usize = 0;
let carry: usize = 0;
let pulled: usize = 0;
let gradGates: usize = 0;

function cells(args: usize, t: i32, sequence: i32, unit: i32, units: i32, through: usize): void {
  const isLstm = load<i32>(args) == LSTM;
  const row = sequence * load<i32>(args, 72) + t;
  const offset = <usize>unit << 2;
  gateBytes = <usize>load<u32>(args, 76) << 2;
  kept = <usize>load<u32>(args, 24) + <usize>row * KEPT * gateBytes + offset;
  before = <usize>load<u32>(args, 20) + <usize>row * gateBytes * (isLstm ? 2 : 1) + offset;
  gradY = load<u32>(args, 28) ? rowOf(args, 28, row) + offset : 0;
  carry = carryAt(args, sequence, unit);
  pulled = pulledAt(args, row) + offset;
  gradGates = load<u32>(args, 52) ? rowOf(args, 52, row) + offset : 0;
  let u = 0;
  if (isLstm) {
    for (; u + 4 <= units; u += 4) lstmCell(<usize>u << 2, through, true);
    for (; u < units; u++) lstmCell(<usize>u << 2, through, false);
  } else {
    for (; u + 4 <= units; u += 4) gruCell(<usize>u << 2, through, true);
    for (; u < units; u++) gruCell(<usize>u << 2, through, false);
  }
  if (isStart(args, sequence, t)) memory.fill(carry, 0, <usize>units << 2);
}

/** s (1 - s), the slope of a sigmoid. */
// @ts-ignore: decorator
@inline
function slopeOf(s: v128): v128 {
  return fnma(s, s, s);
}

/** 1 - v². */
// @ts-ignore: decorator
@inline
function rest(v: v128): v128 {
  return fnma(v, v, f32x4.splat(1));
}

// @ts-ignore: decorator
@inline
function lstmCell(at: usize, through: usize, isWhole: bool): void {
  const i = read(kept + at, isWhole);
  const f = read(kept + gateBytes + at, isWhole);
  const g = read(kept + 2 * gateBytes + at, isWhole);
  const o = read(kept + 3 * gateBytes + at, isWhole);
  const cBefore = read(before + gateBytes + at, isWhole);
  let gradH = read(through + at, isWhole);
  if (gradY) gradH = f32x4.add(gradH, read(gradY + at, isWhole));
  const tanhC = tanh(fma(f, cBefore, f32x4.mul(i, g)));
  const gradC = fma(f32x4.mul(gradH, o), rest(tanhC), read(carry + at, isWhole));
  store4(at, 0, f32x4.mul(f32x4.mul(gradC, g), slopeOf(i)), isWhole);
  store4(at, 1, f32x4.mul(f32x4.mul(gradC, cBefore), slopeOf(f)), isWhole);
  store4(at, 2, f32x4.mul(f32x4.mul(gradC, i), rest(g)), isWhole);
  store4(at, 3, f32x4.mul(f32x4.mul(gradH, tanhC), slopeOf(o)), isWhole);
  write(carry + at, f32x4.mul(gradC, f), isWhole);
}

/** A gate's gradient, which is the same for what it gets from the state and from x. */
// @ts-ignore: decorator
@inline
function store4(at: usize, gate: usize, value: v128, isWhole: bool): void {
  storeGate(at + gate * gateBytes, value, value, isWhole);
}

// @ts-ignore: decorator
@inline
function storeGate(at: usize, ofState: v128, ofX: v128, isWhole: bool): void {
  write(pulled + at, ofState, isWhole);
  if (gradGates) write(gradGates + at, f32x4.add(read(gradGates + at, isWhole), ofX), isWhole);
}

// @ts-ignore: decorator
@inline
function gruCell(at: usize, through: usize, isWhole: bool): void {
  const r = read(kept + at, isWhole);
  const z = read(kept + gateBytes + at, isWhole);
  const n = read(kept + 2 * gateBytes + at, isWhole);
  const u = read(kept + 3 * gateBytes + at, isWhole);
  let grad = f32x4.add(read(through + at, isWhole), read(carry + at, isWhole));
  if (gradY) grad = f32x4.add(grad, read(gradY + at, isWhole));
  const gradN = f32x4.mul(fnma(grad, z, grad), rest(n));
  const gradZ = f32x4.mul(f32x4.mul(grad, f32x4.sub(read(before + at, isWhole), n)), slopeOf(z));
  const gradR = f32x4.mul(f32x4.mul(gradN, u), slopeOf(r));
  store4(at, 0, gradR, isWhole);
  store4(at, 1, gradZ, isWhole);
  storeGate(at + 2 * gateBytes, f32x4.mul(gradN, r), gradN, isWhole);
  write(carry + at, f32x4.mul(grad, z), isWhole);
}
