// expandRows: a row copied to every row, and the sums over rows of blocks for its gradient.
import { rowOf } from "./add";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/** args: row, y, yStride (elements), rows, columns. */
export function expandRows(args: usize): void {
  const source = <usize>load<u32>(args);
  const rows = load<i32>(args, 12);
  const columns = load<i32>(args, 16);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++)
      memory.copy(rowOf(args, 4, row), source, <usize>columns << 2);
  }
}

/**
 * args: x, xStride, partials, rows, columns, rowsPerBlock. An item is a block of rows; the sum of its rows goes to row
 * `item` of partials `[blocks, columns]`.
 */
export function sumRows(args: usize): void {
  const partials = <usize>load<u32>(args, 8);
  const rows = load<i32>(args, 12);
  const columns = load<i32>(args, 16);
  const rowsPerBlock = load<i32>(args, 20);
  const blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
  for (let block = nextItem(); block < blocks; block = nextItem()) {
    const partial = partials + ((<usize>block * columns) << 2);
    memory.fill(partial, 0, <usize>columns << 2);
    const end = min(rows, (block + 1) * rowsPerBlock);
    for (let row = block * rowsPerBlock; row < end; row++) addToRow(rowOf(args, 0, row), partial, columns);
  }
}

/** sum += x. */
export function addToRow(x: usize, sum: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(sum + at, f32x4.add(v128.load(sum + at), v128.load(x + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    store<f32>(sum + at, load<f32>(sum + at) + load<f32>(x + at));
  }
}
