// softplus: y = ln(1 + e^(x + bias)), and its gradients.
import { rowOf } from "./add";
import { fma, sigmoid, softplus as softplus4 } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/** args: x, xStride, bias (0: none), y, yStride, rows, columns. */
export function softplus(args: usize): void {
  const bias = <usize>load<u32>(args, 8);
  const rows = load<i32>(args, 20);
  const columns = load<i32>(args, 24);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++)
      softplusRow(rowOf(args, 0, row), bias, rowOf(args, 12, row), columns);
  }
}

function softplusRow(x: usize, bias: usize, y: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const shift = bias ? v128.load(bias + at) : f32x4.splat(0);
    v128.store(y + at, softplus4(f32x4.add(v128.load(x + at), shift)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const shift = bias ? v128.load32_zero(bias + at) : f32x4.splat(0);
    v128.store32_lane(y + at, softplus4(f32x4.add(v128.load32_zero(x + at), shift)), 0);
  }
}

/**
 * gradX += gradY sigmoid(x + bias); the bias's gradient is the sum of that over rows.
 * args: x, xStride, bias (0: none), gradY, gradYStride, gradX, gradXStride, partials (0: not wanted),
 * rows, columns, rowsPerBlock. An item is a block of rows; its part of the bias's gradient goes to row `item` of
 * partials `[blocks, columns]`.
 */
export function softplusBackward(args: usize): void {
  const bias = <usize>load<u32>(args, 8);
  const partials = <usize>load<u32>(args, 28);
  const rows = load<i32>(args, 32);
  const columns = load<i32>(args, 36);
  const rowsPerBlock = load<i32>(args, 40);
  const blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
  for (let block = nextItem(); block < blocks; block = nextItem()) {
    const partial = partials ? partials + ((<usize>block * columns) << 2) : 0;
    if (partials) memory.fill(partial, 0, <usize>columns << 2);
    const end = min(rows, (block + 1) * rowsPerBlock);
    for (let row = block * rowsPerBlock; row < end; row++)
      addGrads(rowOf(args, 0, row), bias, rowOf(args, 12, row), rowOf(args, 20, row), partial, columns);
  }
}

/** gradX is not optional: were the slope needed under conditions only, V8 would compute it again under each. */
function addGrads(x: usize, bias: usize, gradY: usize, gradX: usize, partial: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const shift = bias ? v128.load(bias + at) : f32x4.splat(0);
    const slope = sigmoid(f32x4.add(v128.load(x + at), shift));
    const grad = v128.load(gradY + at);
    v128.store(gradX + at, fma(grad, slope, v128.load(gradX + at)));
    if (partial) v128.store(partial + at, fma(grad, slope, v128.load(partial + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const shift = bias ? v128.load32_zero(bias + at) : f32x4.splat(0);
    const slope = sigmoid(f32x4.add(v128.load32_zero(x + at), shift));
    const grad = v128.load32_zero(gradY + at);
    v128.store32_lane(gradX + at, fma(grad, slope, v128.load32_zero(gradX + at)), 0);
    if (partial) v128.store32_lane(partial + at, fma(grad, slope, v128.load32_zero(partial + at)), 0);
  }
}
