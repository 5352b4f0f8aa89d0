// embedding: rows of a matrix by their numbers, and the gradient of that matrix.
import { rowOf } from "./add";
import { nextItem, threads } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/** Element `index` of an i32 matrix that is described from byte `slot` of the arguments: address, row stride, columns. */
// @ts-ignore: decorator
@inline
export function integerAt(args: usize, slot: usize, index: i32): i32 {
  const columns = load<i32>(args + slot, 8);
  const row = index / columns;
  return load<i32>(rowOf(args, slot, row) + (<usize>(index - row * columns) << 2));
}

/**
 * y[i] = weight[ids[i]]; NaN for an id outside of the vocabulary, which nobody checked.
 * args: ids, idsStride, idsColumns, weight, weightStride, y, yStride, rows (of y), columns, vocabulary.
 */
export function embedding(args: usize): void {
  const rows = load<i32>(args, 28);
  const columns = load<i32>(args, 32);
  const vocabulary = load<u32>(args, 36);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const id = integerAt(args, 0, row);
      const y = rowOf(args, 20, row);
      if (<u32>id < vocabulary) memory.copy(y, rowOf(args, 12, id), <usize>columns << 2);
      else memory.fill(y, 0xff, <usize>columns << 2);
    }
  }
}

/**
 * gradWeight[ids[i]] += gradY[i]. An item is a range of columns, and walks all rows in their order: so the sum of an
 * element has one order, however the columns are divided, and no two threads write the same element.
 * args: ids, idsStride, idsColumns, gradWeight, gradWeightStride, gradY, gradYStride, rows (of gradY), columns, vocabulary.
 */
export function embeddingBackward(args: usize): void {
  const rows = load<i32>(args, 28);
  const columns = load<i32>(args, 32);
  const vocabulary = load<u32>(args, 36);
  // Whole cache lines, and about four items a thread.
  const width = max(16, (columns / (4 * threads) + 15) & ~15);
  const items = (columns + width - 1) / width;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const start = item * width;
    const count = min(width, columns - start);
    const offset = <usize>start << 2;
    for (let row = 0; row < rows; row++) {
      const id = integerAt(args, 0, row);
      if (<u32>id < vocabulary) addTo(rowOf(args, 12, id) + offset, rowOf(args, 20, row) + offset, count);
    }
  }
}

function addTo(sum: usize, x: usize, count: i32): void {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = <usize>i << 2;
    v128.store(sum + at, f32x4.add(v128.load(sum + at), v128.load(x + at)));
  }
  for (; i < count; i++) {
    const at = <usize>i << 2;
    store<f32>(sum + at, load<f32>(sum + at) + load<f32>(x + at));
  }
}
