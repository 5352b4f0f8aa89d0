// add: y = a + b, by rows. y may be a or b.
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/** args: a, aStride, b, bStride, y, yStride (elements), rows, columns. */
export function add(args: usize): void {
  const rows = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++)
      addRow(rowOf(args, 0, row), rowOf(args, 8, row), rowOf(args, 16, row), columns);
  }
}

function addRow(a: usize, b: usize, y: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(y + at, f32x4.add(v128.load(a + at), v128.load(b + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    store<f32>(y + at, load<f32>(a + at) + load<f32>(b + at));
  }
}

/** Address of a row of the matrix whose address and row stride (elements) are the arguments from byte `slot` on. */
// @ts-ignore: decorator
@inline
export function rowOf(args: usize, slot: usize, row: i32): usize {
  return <usize>load<u32>(args + slot) + ((<usize>row * load<u32>(args + slot, 4)) << 2);
}
