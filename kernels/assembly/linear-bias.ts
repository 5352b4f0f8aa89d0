// The gradient of a linear op's bias: sums over the rows of gradY.
import { nextItem } from "./runtime";

/** Columns an item: one cache line of a row. */
const ITEM_COLUMNS: i32 = 16;
/** Rows summed before they are added to the total, which keeps rounding small over many rows. Part of the result. */
const ROW_BLOCK: i32 = 256;

/** args: gradY, gradYStride (elements), rows, columns, gradBias. gradBias[column] += sum over rows of gradY. */
export function linearGradBias(args: usize): void {
  const stride = <usize>load<u32>(args, 4) << 2;
  const rows = load<i32>(args, 8);
  const columns = load<i32>(args, 12);
  const items = (columns + ITEM_COLUMNS - 1) / ITEM_COLUMNS;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(columns, (item + 1) * ITEM_COLUMNS);
    let column = item * ITEM_COLUMNS;
    for (; column + 4 <= end; column += 4) addFour(args, <usize>column << 2, rows, stride);
    for (; column < end; column++) addOne(args, <usize>column << 2, rows, stride);
  }
}

function addFour(args: usize, at: usize, rows: i32, stride: usize): void {
  let from = <usize>load<u32>(args) + at;
  const target = <usize>load<u32>(args, 16) + at;
  let total = f32x4.splat(0);
  for (let row = 0; row < rows; ) {
    const end = min(rows, row + ROW_BLOCK);
    let sum = f32x4.splat(0);
    for (; row < end; row++, from += stride) sum = f32x4.add(sum, v128.load(from));
    total = f32x4.add(total, sum);
  }
  v128.store(target, f32x4.add(v128.load(target), total));
}

function addOne(args: usize, at: usize, rows: i32, stride: usize): void {
  let from = <usize>load<u32>(args) + at;
  const target = <usize>load<u32>(args, 16) + at;
  let total: f32 = 0;
  for (let row = 0; row < rows; ) {
    const end = min(rows, row + ROW_BLOCK);
    let sum: f32 = 0;
    for (; row < end; row++, from += stride) sum += load<f32>(from);
    total += sum;
  }
  store<f32>(target, load<f32>(target) + total);
}
