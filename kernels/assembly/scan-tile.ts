// Tiles of a scan: softplus, its slope, and the gate of four channels by time, lanes over channels, 16 bytes a step.
//
// Loops stay short and take one function each, with its constants in variables before the loop: the processor then
// overlaps many steps of these long chains, and V8 keeps the constants in registers instead of making them anew.
import { EXP2_CONSTANTS, exp2Product, LOG1P_CONSTANTS, log1pWith } from "./math";
import { loadLanes, storeLanes } from "./scan-args";

/** log2(e) and its negative, for loops to keep in variables. */
const SCALES: usize = memory.data<f32>([1.44269504088896341, -1.44269504088896341], 16);
/** e^±87 are the last whole powers inside float32's normal range. */
const REACH: f32 = 87;

/** Writes e^-|value| behind each value, `to` bytes further. Relative error 3e-7 for |value| < 10, growing with it. */
export function powers(tile: usize, to: usize, count: i32): void {
  const round = v128.load32_splat(EXP2_CONSTANTS), c1 = v128.load32_splat(EXP2_CONSTANTS, 4);
  const c2 = v128.load32_splat(EXP2_CONSTANTS, 8), c3 = v128.load32_splat(EXP2_CONSTANTS, 12);
  const c4 = v128.load32_splat(EXP2_CONSTANTS, 16), c5 = v128.load32_splat(EXP2_CONSTANTS, 20);
  const one = v128.load32_splat(EXP2_CONSTANTS, 24), scale = v128.load32_splat(SCALES);
  for (const end = tile + ((<usize>count) << 4); tile < end; tile += 16) {
    const x = f32x4.pmax(v128.or(v128.load(tile), f32x4.splat(-0.0)), f32x4.splat(-REACH));
    v128.store(tile + to, exp2Product(false, x, scale, round, c1, c2, c3, c4, c5, one, one));
  }
}

/** Turns values into softplus(value) = max(value, 0) + ln(1 + power), with the powers `from` bytes further. */
export function softplusSteps(tile: usize, from: usize, count: i32): void {
  const c0 = v128.load32_splat(LOG1P_CONSTANTS), c1 = v128.load32_splat(LOG1P_CONSTANTS, 4);
  const c2 = v128.load32_splat(LOG1P_CONSTANTS, 8), c3 = v128.load32_splat(LOG1P_CONSTANTS, 12);
  const two = v128.load32_splat(LOG1P_CONSTANTS, 16), zero = f32x4.splat(0);
  for (const end = tile + ((<usize>count) << 4); tile < end; tile += 16) {
    const log = log1pWith(v128.load(tile + from), c0, c1, c2, c3, two);
    v128.store(tile, f32x4.add(f32x4.pmax(v128.load(tile), zero), log));
  }
}

/** Writes sigmoid(z) to a tile, from rows of up to four channels `row` bytes apart. */
export function sigmoidSteps(z: usize, row: usize, lanes: i32, tile: usize, count: i32): void {
  if (lanes == 4) sigmoidLanes(4, z, row, tile, count);
  else sigmoidLanes(lanes, z, row, tile, count);
}

// @ts-ignore: decorator
@inline
function sigmoidLanes(lanes: i32, z: usize, row: usize, tile: usize, count: i32): void {
  const round = v128.load32_splat(EXP2_CONSTANTS), c1 = v128.load32_splat(EXP2_CONSTANTS, 4);
  const c2 = v128.load32_splat(EXP2_CONSTANTS, 8), c3 = v128.load32_splat(EXP2_CONSTANTS, 12);
  const c4 = v128.load32_splat(EXP2_CONSTANTS, 16), c5 = v128.load32_splat(EXP2_CONSTANTS, 20);
  const one = v128.load32_splat(EXP2_CONSTANTS, 24), scale = v128.load32_splat(SCALES, 4);
  for (const end = tile + ((<usize>count) << 4); tile < end; tile += 16) {
    const x = f32x4.pmin(f32x4.pmax(loadLanes(z, lanes), f32x4.splat(-REACH)), f32x4.splat(REACH));
    const power = exp2Product(false, x, scale, round, c1, c2, c3, c4, c5, one, one);
    v128.store(tile, f32x4.div(one, f32x4.add(one, power)));
    z += row;
  }
}

/** x sigmoid(x) of a row, in place. */
export function siluRow(row: usize, columns: i32): void {
  const round = v128.load32_splat(EXP2_CONSTANTS), c1 = v128.load32_splat(EXP2_CONSTANTS, 4);
  const c2 = v128.load32_splat(EXP2_CONSTANTS, 8), c3 = v128.load32_splat(EXP2_CONSTANTS, 12);
  const c4 = v128.load32_splat(EXP2_CONSTANTS, 16), c5 = v128.load32_splat(EXP2_CONSTANTS, 20);
  const one = v128.load32_splat(EXP2_CONSTANTS, 24), scale = v128.load32_splat(SCALES, 4);
  for (; columns > 0; columns -= 4) {
    const x = loadLanes(row, columns);
    const power = exp2Product(false, f32x4.pmin(f32x4.pmax(x, f32x4.splat(-REACH)), f32x4.splat(REACH)), scale, round, c1, c2, c3, c4, c5, one, one);
    storeLanes(row, f32x4.div(x, f32x4.add(one, power)), columns);
    row += 16;
  }
}
