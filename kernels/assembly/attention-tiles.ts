// What the passes of attention share: tiles of queries and keys in a thread's scratch memory, and products of them.
import { fma } from "./math";
import { scratch } from "./runtime";

/** Queries or keys of a tile. */
export const TILE: i32 = 64;
/** The widest head. */
const MOST_CHANNELS: i32 = 256;

/** Five tiles of rows, `[TILE, width]` or turned `[width, TILE]`; three of scores `[TILE, TILE]`; vectors of a tile. */
// @ts-ignore: decorator
@inline
export function rowTile(index: i32): usize {
  return scratch + <usize>(index * TILE * MOST_CHANNELS * 4);
}

// @ts-ignore: decorator
@inline
export function scoreTile(index: i32): usize {
  return rowTile(5) + <usize>(index * TILE * TILE * 4);
}

// @ts-ignore: decorator
@inline
export function vectorTile(index: i32): usize {
  return scoreTile(3) + <usize>(index * TILE * 4);
}

/** Argument `index` of a kernel, as an address or a number. */
// @ts-ignore: decorator
@inline
export function arg(args: usize, index: i32): usize {
  return <usize>load<u32>(args + (<usize>index << 2));
}

/** Columns of a tile of rows: those of a head, up to a multiple of 8. */
// @ts-ignore: decorator
@inline
export function widthOf(headDim: i32): i32 {
  return (headDim + 7) & ~7;
}

/** Where a head of a row begins, of the tensor whose address and row stride are the arguments from `index` on. */
// @ts-ignore: decorator
@inline
export function headOf(args: usize, index: i32, row: i32, head: i32, headDim: i32): usize {
  return arg(args, index) + ((<usize>row * arg(args, index + 1) + <usize>(head * headDim)) << 2);
}

/** Copies `count` rows of a head into a tile `[TILE, width]`, times a factor; zeros up to the width and to a multiple of 4 rows. */
export function bringRows(to: usize, from: usize, stride: usize, count: i32, headDim: i32, factor: f32): void {
  const width = widthOf(headDim);
  const factors = f32x4.splat(factor);
  for (let row = 0; row < ((count + 3) & ~3); row++) {
    const target = to + (<usize>(row * width) << 2);
    memory.fill(target, 0, <usize>width << 2);
    if (row >= count) continue;
    const source = from + ((<usize>row * stride) << 2);
    let i = 0;
    for (; i + 4 <= headDim; i += 4) {
      const at = <usize>i << 2;
      v128.store(target + at, f32x4.mul(v128.load(source + at), factors));
    }
    for (; i < headDim; i++) store<f32>(target + (<usize>i << 2), load<f32>(source + (<usize>i << 2)) * factor);
  }
}

/** Copies `count` rows of a head into a turned tile `[headDim, TILE]`. What lies behind the last row is left. */
export function bringTurned(to: usize, from: usize, stride: usize, count: i32, headDim: i32): void {
  const rowBytes = stride << 2;
  let row = 0;
  for (; row + 4 <= count; row += 4) {
    let source = from + <usize>row * rowBytes;
    let target = to + (<usize>row << 2);
    let i = 0;
    for (; i + 4 <= headDim; i += 4, source += 16, target += TILE * 16) {
      const a = v128.load(source);
      const b = v128.load(source + rowBytes);
      const c = v128.load(source + 2 * rowBytes);
      const d = v128.load(source + 3 * rowBytes);
      const ab0 = i8x16.shuffle(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
      const ab2 = i8x16.shuffle(a, b, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
      const cd0 = i8x16.shuffle(c, d, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
      const cd2 = i8x16.shuffle(c, d, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
      v128.store(target, i64x2.shuffle(ab0, cd0, 0, 2));
      v128.store(target, i64x2.shuffle(ab0, cd0, 1, 3), TILE * 4);
      v128.store(target, i64x2.shuffle(ab2, cd2, 0, 2), TILE * 8);
      v128.store(target, i64x2.shuffle(ab2, cd2, 1, 3), TILE * 12);
    }
    for (; i < headDim; i++, source += 4, target += TILE * 4)
      for (let j: usize = 0; j < 4; j++) store<f32>(target + (j << 2), load<f32>(source + j * rowBytes));
  }
  for (; row < count; row++)
    for (let i = 0; i < headDim; i++)
      store<f32>(to + (<usize>(i * TILE + row) << 2), load<f32>(from + <usize>row * rowBytes + (<usize>i << 2)));
}

/**
 * c (+)= a b: `rows` up to a multiple of 4, `columns` up to a multiple of 8, exactly `steps`. Strides are in elements. Each
 * element is summed in the order of the steps, whatever the other sizes.
 */
export function multiplyTiles(
  a: usize, aStride: usize, b: usize, bStride: usize, c: usize, cStride: usize,
  rows: i32, columns: i32, steps: i32, adds: bool,
): void {
  if (rows == 1) return multiplyRow(a, b, bStride, c, columns, steps, adds);
  const aRow = aStride << 2;
  const bRow = bStride << 2;
  const cRow = cStride << 2;
  for (let row = 0; row < rows; row += 4) {
    const aFirst = a + <usize>row * aRow;
    for (let column = 0; column < columns; column += 8) {
      let c0 = c + <usize>row * cRow + (<usize>column << 2);
      let x0 = f32x4.splat(0);
      let x1 = x0, y0 = x0, y1 = x0, z0 = x0, z1 = x0, w0 = x0, w1 = x0;
      if (adds) {
        x0 = v128.load(c0); x1 = v128.load(c0, 16);
        y0 = v128.load(c0 + cRow); y1 = v128.load(c0 + cRow, 16);
        z0 = v128.load(c0 + 2 * cRow); z1 = v128.load(c0 + 2 * cRow, 16);
        w0 = v128.load(c0 + 3 * cRow); w1 = v128.load(c0 + 3 * cRow, 16);
      }
      let left = aFirst;
      let right = b + (<usize>column << 2);
      for (let step = 0; step < steps; step++, left += 4, right += bRow) {
        const b0 = v128.load(right);
        const b1 = v128.load(right, 16);
        const ax = v128.load32_splat(left);
        const ay = v128.load32_splat(left + aRow);
        const az = v128.load32_splat(left + 2 * aRow);
        const aw = v128.load32_splat(left + 3 * aRow);
        x0 = fma(ax, b0, x0); x1 = fma(ax, b1, x1);
        y0 = fma(ay, b0, y0); y1 = fma(ay, b1, y1);
        z0 = fma(az, b0, z0); z1 = fma(az, b1, z1);
        w0 = fma(aw, b0, w0); w1 = fma(aw, b1, w1);
      }
      v128.store(c0, x0); v128.store(c0, x1, 16);
      v128.store(c0 + cRow, y0); v128.store(c0 + cRow, y1, 16);
      v128.store(c0 + 2 * cRow, z0); v128.store(c0 + 2 * cRow, z1, 16);
      v128.store(c0 + 3 * cRow, w0); v128.store(c0 + 3 * cRow, w1, 16);
    }
  }
}

/** {@link multiplyTiles} for one row, with the same bits: decoding. */
function multiplyRow(a: usize, b: usize, bStride: usize, c: usize, columns: i32, steps: i32, adds: bool): void {
  const bRow = bStride << 2;
  for (let column = 0; column < columns; column += 8) {
    const target = c + (<usize>column << 2);
    let x0 = adds ? v128.load(target) : f32x4.splat(0);
    let x1 = adds ? v128.load(target, 16) : f32x4.splat(0);
    let left = a;
    let right = b + (<usize>column << 2);
    for (let step = 0; step < steps; step++, left += 4, right += bRow) {
      const ax = v128.load32_splat(left);
      x0 = fma(ax, v128.load(right), x0);
      x1 = fma(ax, v128.load(right, 16), x1);
    }
    v128.store(target, x0);
    v128.store(target, x1, 16);
  }
}

/** sums `[rows, width]` += weights `[rows, steps]` · rows of a head, where they lie if whole vectors of 8, else through `spare`. */
export function addWeightedRows(
  sums: usize, weights: usize, from: usize, stride: usize, rows: i32, steps: i32, headDim: i32, spare: usize,
): void {
  const width = widthOf(headDim);
  if (width != headDim) {
    bringRows(spare, from, stride, steps, headDim, 1);
    from = spare;
    stride = width;
  }
  multiplyTiles(weights, TILE, from, stride, sums, width, rows, width, steps, true);
}

/** to += from · factor, over the channels of a head. */
export function addScaledHead(to: usize, from: usize, headDim: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= headDim; i += 4) {
    const at = <usize>i << 2;
    v128.store(to + at, fma(v128.load(from + at), factors, v128.load(to + at)));
  }
  for (; i < headDim; i++) {
    const at = <usize>i << 2;
    store<f32>(to + at, load<f32>(to + at) + load<f32>(from + at) * factor);
  }
}

/** Sum of products over the channels of a head. */
export function dotHead(a: usize, b: usize, headDim: i32): f32 {
  let x = f32x4.splat(0);
  let y = x;
  let i = 0;
  for (; i + 8 <= headDim; i += 8) {
    const at = <usize>i << 2;
    x = fma(v128.load(a + at), v128.load(b + at), x);
    y = fma(v128.load(a + at, 16), v128.load(b + at, 16), y);
  }
  for (; i < headDim; i++) {
    const at = <usize>i << 2;
    x = fma(v128.load32_zero(a + at), v128.load32_zero(b + at), x);
  }
  const sum = f32x4.add(x, y);
  return (
    f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 2) + (f32x4.extract_lane(sum, 1) + f32x4.extract_lane(sum, 3))
  );
}
