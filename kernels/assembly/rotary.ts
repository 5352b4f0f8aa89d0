// rotary: pairs of channels, half of the turning ones apart, turned by angles that grow with the position.
import { rowOf } from "./add";
import { fma, fnma } from "./math";
import { nextItem, scratch } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;
/** Radians in 2^-32 of a turn. */
const RADIANS: f64 = 6.283185307179586 / 4294967296.0;

/**
 * args: x, xStride, y, yStride, turns (for each pair, 2^64 times the part of a turn that a token makes), positions (of the
 * first token of each sequence; 0: none), rows, length, columns, headDim, half (pairs), isBack (y += x turned back).
 */
export function rotary(args: usize): void {
  const turns = <usize>load<u32>(args, 16);
  const positions = <usize>load<u32>(args, 20);
  const rows = load<i32>(args, 24);
  const length = load<i32>(args, 28);
  const columns = load<i32>(args, 32);
  const headDim = load<i32>(args, 36);
  const half = load<i32>(args, 40);
  const isBack = load<i32>(args, 44) != 0;
  const cosines = scratch;
  const sines = scratch + (<usize>half << 2);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      let position = row % length;
      if (positions) position += load<i32>(positions + (<usize>(row / length) << 2));
      findAngles(turns, position, half, cosines, sines, isBack ? -1 : 1);
      let x = rowOf(args, 0, row);
      let y = rowOf(args, 8, row);
      for (let column = 0; column < columns; column += headDim) {
        turnHead(x, y, cosines, sines, half, isBack);
        passRest(x, y, half * 2, headDim, isBack);
        x += <usize>headDim << 2;
        y += <usize>headDim << 2;
      }
    }
  }
}

/**
 * The fraction of a turn is exact to 2^-32: what overflows is whole turns. Its nearest quarter turn is taken off, and sine
 * and cosine of the rest, at most an eighth of a turn, are power series, errors below 2e-9.
 */
function findAngles(turns: usize, position: i32, half: i32, cosines: usize, sines: usize, sign: f32): void {
  for (let i = 0; i < half; i++) {
    const fraction = <u32>((<u64>position * load<u64>(turns + (<usize>i << 3))) >> 32);
    const quarter = (fraction + (1 << 29)) >>> 30;
    const a = <f64>(<i32>(fraction - (quarter << 30))) * RADIANS;
    const s = a * a;
    const sine = <f32>(a * (1.0 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880))))));
    const cosine = <f32>(1.0 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 - s * (1.0 / 3628800))))));
    const isOdd = (quarter & 1) != 0;
    const c = isOdd ? sine : cosine;
    const d = isOdd ? cosine : sine;
    store<f32>(cosines + (<usize>i << 2), ((quarter + 1) & 2) != 0 ? -c : c);
    store<f32>(sines + (<usize>i << 2), sign * ((quarter & 2) != 0 ? -d : d));
  }
}

function turnHead(x: usize, y: usize, cosines: usize, sines: usize, half: i32, adds: bool): void {
  const apart = <usize>half << 2;
  let i = 0;
  for (; i + 4 <= half; i += 4) {
    const at = <usize>i << 2;
    const a = v128.load(x + at);
    const b = v128.load(x + at + apart);
    const c = v128.load(cosines + at);
    const s = v128.load(sines + at);
    let first = fnma(b, s, f32x4.mul(a, c));
    let second = fma(a, s, f32x4.mul(b, c));
    if (adds) {
      first = f32x4.add(first, v128.load(y + at));
      second = f32x4.add(second, v128.load(y + at + apart));
    }
    v128.store(y + at, first);
    v128.store(y + at + apart, second);
  }
  for (; i < half; i++) {
    const at = <usize>i << 2;
    const a = load<f32>(x + at);
    const b = load<f32>(x + at + apart);
    const c = load<f32>(cosines + at);
    const s = load<f32>(sines + at);
    store<f32>(y + at, a * c - b * s + (adds ? load<f32>(y + at) : 0));
    store<f32>(y + at + apart, b * c + a * s + (adds ? load<f32>(y + at + apart) : 0));
  }
}

/** Channels from `from` on pass through. */
function passRest(x: usize, y: usize, from: i32, headDim: i32, adds: bool): void {
  if (!adds) {
    memory.copy(y + (<usize>from << 2), x + (<usize>from << 2), <usize>(headDim - from) << 2);
    return;
  }
  for (let i = from; i < headDim; i++) {
    const at = <usize>i << 2;
    store<f32>(y + at, load<f32>(y + at) + load<f32>(x + at));
  }
}
