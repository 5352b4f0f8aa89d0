// rmsNorm: y = x / sqrt(mean(x²) + eps) * weight, a row at a time, and its gradients. See src/ops/rms-norm/README.md.
import { rowOf } from "./add";
import { fma, fnma, sum4 } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;
/** Columns that one item adds up in addColumnSums. */
const SUM_COLUMNS: i32 = 64;

/** args: x, xStride, y, yStride, weight, inverse (of a row's root mean square; 0: not wanted), rows, columns, eps. */
export function rmsNorm(args: usize): void {
  const weight = <usize>load<u32>(args, 16);
  const inverse = <usize>load<u32>(args, 20);
  const rows = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const eps = load<f32>(args, 32);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const x = rowOf(args, 0, row);
      const scale = <f32>1 / sqrt<f32>(sumOfSquares(x, columns) / <f32>columns + eps);
      if (inverse) store<f32>(inverse + (<usize>row << 2), scale);
      scaleRow(x, weight, rowOf(args, 8, row), scale, columns);
    }
  }
}

function sumOfSquares(x: usize, columns: i32): f32 {
  let a = f32x4.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let column = 0;
  for (; column + 16 <= columns; column += 16) {
    const at = x + (<usize>column << 2);
    const x0 = v128.load(at);
    const x1 = v128.load(at, 16);
    const x2 = v128.load(at, 32);
    const x3 = v128.load(at, 48);
    a = fma(x0, x0, a);
    b = fma(x1, x1, b);
    c = fma(x2, x2, c);
    d = fma(x3, x3, d);
  }
  for (; column + 4 <= columns; column += 4) {
    const x0 = v128.load(x + (<usize>column << 2));
    a = fma(x0, x0, a);
  }
  for (; column < columns; column++) {
    const x0 = v128.load32_zero(x + (<usize>column << 2));
    b = fma(x0, x0, b);
  }
  return sum4(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
}

/** y = x scale weight. */
function scaleRow(x: usize, weight: usize, y: usize, scale: f32, columns: i32): void {
  const scales = f32x4.splat(scale);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(y + at, f32x4.mul(f32x4.mul(v128.load(x + at), scales), v128.load(weight + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    store<f32>(y + at, load<f32>(x + at) * scale * load<f32>(weight + at));
  }
}

/**
 * args: x, xStride, gradY, gradYStride, gradX (0: not wanted), gradXStride, weight, inverse, partials (0: not wanted),
 * rows, columns, rowsPerBlock. An item is a block of rows; its part of the weight's gradient goes to row `item` of
 * partials `[blocks, columns]`.
 */
export function rmsNormBackward(args: usize): void {
  const gradX = load<u32>(args, 16);
  const weight = <usize>load<u32>(args, 24);
  const inverse = <usize>load<u32>(args, 28);
  const partials = <usize>load<u32>(args, 32);
  const rows = load<i32>(args, 36);
  const columns = load<i32>(args, 40);
  const rowsPerBlock = load<i32>(args, 44);
  const blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
  for (let block = nextItem(); block < blocks; block = nextItem()) {
    const partial = partials + ((<usize>block * columns) << 2);
    if (partials) memory.fill(partial, 0, <usize>columns << 2);
    const end = min(rows, (block + 1) * rowsPerBlock);
    for (let row = block * rowsPerBlock; row < end; row++) {
      const x = rowOf(args, 0, row);
      const gradY = rowOf(args, 8, row);
      const scale = load<f32>(inverse + (<usize>row << 2));
      if (gradX) addGradX(x, gradY, weight, rowOf(args, 16, row), scale, columns);
      if (partials) addGradWeight(x, gradY, partial, scale, columns);
    }
  }
}

/** gradX += scale weight gradY - x scale³ mean(weight gradY x). */
function addGradX(x: usize, gradY: usize, weight: usize, gradX: usize, scale: f32, columns: i32): void {
  const dot = dotOfThree(x, gradY, weight, columns);
  const pull = f32x4.splat((dot * scale * scale * scale) / <f32>columns);
  const scales = f32x4.splat(scale);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const direct = fma(f32x4.mul(v128.load(gradY + at), v128.load(weight + at)), scales, v128.load(gradX + at));
    v128.store(gradX + at, fnma(v128.load(x + at), pull, direct));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const product = f32x4.mul(v128.load32_zero(gradY + at), v128.load32_zero(weight + at));
    const direct = fma(product, scales, v128.load32_zero(gradX + at));
    v128.store32_lane(gradX + at, fnma(v128.load32_zero(x + at), pull, direct), 0);
  }
}

function dotOfThree(x: usize, y: usize, z: usize, columns: i32): f32 {
  let a = f32x4.splat(0);
  let b = a;
  let column = 0;
  for (; column + 8 <= columns; column += 8) {
    const at = <usize>column << 2;
    a = fma(f32x4.mul(v128.load(y + at), v128.load(z + at)), v128.load(x + at), a);
    b = fma(f32x4.mul(v128.load(y + at, 16), v128.load(z + at, 16)), v128.load(x + at, 16), b);
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    a = fma(f32x4.mul(v128.load32_zero(y + at), v128.load32_zero(z + at)), v128.load32_zero(x + at), a);
  }
  return sum4(f32x4.add(a, b));
}

/** partial += gradY x scale. */
function addGradWeight(x: usize, gradY: usize, partial: usize, scale: f32, columns: i32): void {
  const scales = f32x4.splat(scale);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const normed = f32x4.mul(v128.load(x + at), scales);
    v128.store(partial + at, fma(v128.load(gradY + at), normed, v128.load(partial + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    store<f32>(partial + at, load<f32>(partial + at) + load<f32>(gradY + at) * (load<f32>(x + at) * scale));
  }
}

/**
 * Adds the sum of the rows of a matrix, in their order, to a row: sum[column] += partials[0][column] + ...
 * args: partials, rows, columns, sum.
 */
export function addColumnSums(args: usize): void {
  const partials = <usize>load<u32>(args);
  const rows = load<i32>(args, 4);
  const columns = load<i32>(args, 8);
  const sum = <usize>load<u32>(args, 12);
  const rowBytes = <usize>columns << 2;
  const items = (columns + SUM_COLUMNS - 1) / SUM_COLUMNS;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(columns, (item + 1) * SUM_COLUMNS);
    let column = item * SUM_COLUMNS;
    for (; column + 4 <= end; column += 4) {
      let at = partials + (<usize>column << 2);
      let total = f32x4.splat(0);
      for (let row = 0; row < rows; row++, at += rowBytes) total = f32x4.add(total, v128.load(at));
      const target = sum + (<usize>column << 2);
      v128.store(target, f32x4.add(v128.load(target), total));
    }
    for (; column < end; column++) {
      let at = partials + (<usize>column << 2);
      let total: f32 = 0;
      for (let row = 0; row < rows; row++, at += rowBytes) total += load<f32>(at);
      const target = sum + (<usize>column << 2);
      store<f32>(target, load<f32>(target) + total);
    }
  }
}
