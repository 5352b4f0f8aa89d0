// multiply: y = a b, and y += a b for its gradients, by rows.
import { rowOf } from "./add";
import { fma } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/** args: a, aStride, b, bStride, y, yStride (elements), rows, columns, whether to add to y. */
export function multiply(args: usize): void {
  const rows = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const adds = load<i32>(args, 32) != 0;
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      if (adds) addProducts(rowOf(args, 0, row), rowOf(args, 8, row), rowOf(args, 16, row), columns);
      else storeProducts(rowOf(args, 0, row), rowOf(args, 8, row), rowOf(args, 16, row), columns);
    }
  }
}

function storeProducts(a: usize, b: usize, y: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(y + at, f32x4.mul(v128.load(a + at), v128.load(b + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    store<f32>(y + at, load<f32>(a + at) * load<f32>(b + at));
  }
}

function addProducts(a: usize, b: usize, y: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(y + at, fma(v128.load(a + at), v128.load(b + at), v128.load(y + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    v128.store32_lane(y + at, fma(v128.load32_zero(a + at), v128.load32_zero(b + at), v128.load32_zero(y + at)), 0);
  }
}
