// negativeExp: y = -exp(x), and gradX += gradY y.
import { rowOf } from "./add";
import { exp, fma } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 12;

/** args: x, xStride, y, yStride, rows, columns. */
export function negativeExp(args: usize): void {
  const rows = load<i32>(args, 16);
  const columns = load<i32>(args, 20);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const x = rowOf(args, 0, row);
      const y = rowOf(args, 8, row);
      let column = 0;
      for (; column + 4 <= columns; column += 4) {
        const at = <usize>column << 2;
        v128.store(y + at, f32x4.neg(exp(v128.load(x + at))));
      }
      for (; column < columns; column++) {
        const at = <usize>column << 2;
        v128.store32_lane(y + at, f32x4.neg(exp(v128.load32_zero(x + at))), 0);
      }
    }
  }
}

/** args: gradY, gradYStride, y, yStride, gradX, gradXStride, rows, columns. */
export function negativeExpBackward(args: usize): void {
  const rows = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const gradY = rowOf(args, 0, row);
      const y = rowOf(args, 8, row);
      const gradX = rowOf(args, 16, row);
      let column = 0;
      for (; column + 4 <= columns; column += 4) {
        const at = <usize>column << 2;
        v128.store(gradX + at, fma(v128.load(gradY + at), v128.load(y + at), v128.load(gradX + at)));
      }
      for (; column < columns; column++) {
        const at = <usize>column << 2;
        store<f32>(gradX + at, load<f32>(gradX + at) + load<f32>(gradY + at) * load<f32>(y + at));
      }
    }
  }
}
