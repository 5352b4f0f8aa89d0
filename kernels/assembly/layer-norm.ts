// layerNorm: y = (x - mean) / sqrt(variance + eps) * weight + bias, a row at a time, and its gradients. See src/ops/layer-norm/README.md.
import { rowOf } from "./add";
import { addToRow } from "./expand-rows";
import { fma, fnma, sum4 } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/**
 * args: x, xStride, y, yStride, weight, bias, mean, inverse (of a row's standard deviation; both 0: not wanted), rows,
 * columns, eps.
 */
export function layerNorm(args: usize): void {
  const weight = <usize>load<u32>(args, 16);
  const bias = <usize>load<u32>(args, 20);
  const means = <usize>load<u32>(args, 24);
  const inverses = <usize>load<u32>(args, 28);
  const rows = load<i32>(args, 32);
  const columns = load<i32>(args, 36);
  const eps = load<f32>(args, 40);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const x = rowOf(args, 0, row);
      const mean = sumOf(x, columns) / <f32>columns;
      const inverse = <f32>1 / sqrt<f32>(squaresAround(x, mean, columns) / <f32>columns + eps);
      if (means) store<f32>(means + (<usize>row << 2), mean);
      if (inverses) store<f32>(inverses + (<usize>row << 2), inverse);
      normRow(x, rowOf(args, 8, row), weight, bias, mean, inverse, columns);
    }
  }
}

function sumOf(x: usize, columns: i32): f32 {
  let a = f32x4.splat(0);
  let b = a;
  let column = 0;
  for (; column + 8 <= columns; column += 8) {
    const at = x + (<usize>column << 2);
    a = f32x4.add(a, v128.load(at));
    b = f32x4.add(b, v128.load(at, 16));
  }
  for (; column < columns; column++) a = f32x4.add(a, v128.load32_zero(x + (<usize>column << 2)));
  return sum4(f32x4.add(a, b));
}

/** Sum of (x - mean)²: around the mean, for x² less mean² would lose its digits where the mean is large. */
function squaresAround(x: usize, mean: f32, columns: i32): f32 {
  const means = f32x4.splat(mean);
  let a = f32x4.splat(0);
  let b = a;
  let column = 0;
  for (; column + 8 <= columns; column += 8) {
    const at = x + (<usize>column << 2);
    const x0 = f32x4.sub(v128.load(at), means);
    const x1 = f32x4.sub(v128.load(at, 16), means);
    a = fma(x0, x0, a);
    b = fma(x1, x1, b);
  }
  let tail: f32 = 0;
  for (; column < columns; column++) {
    const x0 = load<f32>(x + (<usize>column << 2)) - mean;
    tail += x0 * x0;
  }
  return sum4(f32x4.add(a, b)) + tail;
}

/** y = (x - mean) inverse weight + bias. */
function normRow(x: usize, y: usize, weight: usize, bias: usize, mean: f32, inverse: f32, columns: i32): void {
  const means = f32x4.splat(mean);
  const inverses = f32x4.splat(inverse);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const normed = f32x4.mul(f32x4.sub(v128.load(x + at), means), inverses);
    v128.store(y + at, fma(normed, v128.load(weight + at), v128.load(bias + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    store<f32>(y + at, (load<f32>(x + at) - mean) * inverse * load<f32>(weight + at) + load<f32>(bias + at));
  }
}

/**
 * args: x, xStride, gradY, gradYStride, gradX (0: not wanted), gradXStride, weight, mean, inverse, weightPartials,
 * biasPartials (0: not wanted), rows, columns, rowsPerBlock. An item is a block of rows; its parts of the gradients of
 * weight and bias go to row `item` of the partials `[blocks, columns]`.
 */
export function layerNormBackward(args: usize): void {
  const gradX = load<u32>(args, 16);
  const weight = <usize>load<u32>(args, 24);
  const means = <usize>load<u32>(args, 28);
  const inverses = <usize>load<u32>(args, 32);
  const weightPartials = <usize>load<u32>(args, 36);
  const biasPartials = <usize>load<u32>(args, 40);
  const rows = load<i32>(args, 44);
  const columns = load<i32>(args, 48);
  const rowsPerBlock = load<i32>(args, 52);
  const blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
  for (let block = nextItem(); block < blocks; block = nextItem()) {
    const start = (<usize>block * columns) << 2;
    if (weightPartials) memory.fill(weightPartials + start, 0, <usize>columns << 2);
    if (biasPartials) memory.fill(biasPartials + start, 0, <usize>columns << 2);
    const end = min(rows, (block + 1) * rowsPerBlock);
    for (let row = block * rowsPerBlock; row < end; row++) {
      const x = rowOf(args, 0, row);
      const gradY = rowOf(args, 8, row);
      const mean = load<f32>(means + (<usize>row << 2));
      const inverse = load<f32>(inverses + (<usize>row << 2));
      if (gradX) addGradX(x, gradY, weight, rowOf(args, 16, row), mean, inverse, columns);
      if (weightPartials) addGradWeight(x, gradY, weightPartials + start, mean, inverse, columns);
      if (biasPartials) addToRow(gradY, biasPartials + start, columns);
    }
  }
}

/** With n = (x - mean) inverse and p = weight gradY: gradX += inverse (p - mean(p) - n mean(p n)). */
function addGradX(x: usize, gradY: usize, weight: usize, gradX: usize, mean: f32, inverse: f32, columns: i32): void {
  const centres = f32x4.splat(mean);
  let sums = f32x4.splat(0);
  let products = sums;
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const pulled = f32x4.mul(v128.load(gradY + at), v128.load(weight + at));
    sums = f32x4.add(sums, pulled);
    products = fma(pulled, f32x4.sub(v128.load(x + at), centres), products);
  }
  let sum = sum4(sums);
  let product = sum4(products);
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const pulled = load<f32>(gradY + at) * load<f32>(weight + at);
    sum += pulled;
    product += pulled * (load<f32>(x + at) - mean);
  }
  const shift = f32x4.splat((sum / <f32>columns) * inverse);
  const pull = f32x4.splat((product * inverse * inverse * inverse) / <f32>columns);
  const scales = f32x4.splat(inverse);
  column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const pulled = f32x4.mul(v128.load(gradY + at), v128.load(weight + at));
    const direct = f32x4.sub(fma(pulled, scales, v128.load(gradX + at)), shift);
    v128.store(gradX + at, fnma(f32x4.sub(v128.load(x + at), centres), pull, direct));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const pulled = f32x4.mul(v128.load32_zero(gradY + at), v128.load32_zero(weight + at));
    const direct = f32x4.sub(fma(pulled, scales, v128.load32_zero(gradX + at)), shift);
    v128.store32_lane(gradX + at, fnma(f32x4.sub(v128.load32_zero(x + at), centres), pull, direct), 0);
  }
}

/** partial += gradY (x - mean) inverse. */
function addGradWeight(x: usize, gradY: usize, partial: usize, mean: f32, inverse: f32, columns: i32): void {
  const means = f32x4.splat(mean);
  const inverses = f32x4.splat(inverse);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const normed = f32x4.mul(f32x4.sub(v128.load(x + at), means), inverses);
    v128.store(partial + at, fma(v128.load(gradY + at), normed, v128.load(partial + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const normed = (load<f32>(x + at) - mean) * inverse;
    store<f32>(partial + at, load<f32>(partial + at) + load<f32>(gradY + at) * normed);
  }
}
