// Sums over rows that do not depend on the number of threads: partial sums of fixed blocks of rows, added in their order.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** At most so many blocks: enough for any number of threads to share. */
const BLOCKS = 64;
/** At least about so many elements a block. */
const BLOCK_ELEMENTS = 1 << 13;
/** Elements of partial sums below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

/**
 * Adds to `sum` `[columns]` what `dispatch` finds over `rows` rows. The kernel that it dispatches takes blocks of
 * `rowsPerBlock` rows as its items, and writes the sums of block i to row i of `partials` `[blocks, columns]`.
 * Without a `sum` the blocks are only the items, and `partials` is 0. The blocks follow from the shape alone.
 */
export function addColumnSums(
  backend: WasmBackend,
  { rows, columns, sum }: { rows: number; columns: number; sum: Tensor | undefined },
  dispatch: (partials: number, rowsPerBlock: number) => void,
): void {
  const rowsPerBlock = Math.max(1, Math.ceil(rows / BLOCKS), Math.floor(BLOCK_ELEMENTS / columns));
  if (!sum) return dispatch(0, rowsPerBlock);
  const blocks = Math.ceil(rows / rowsPerBlock);
  const partials = backend.allocate("f32", blocks * columns);
  dispatch(partials.pointer, rowsPerBlock);
  const args = [partials.pointer, blocks, columns, pointer(sum)];
  backend.dispatch("addColumnSums", args, blocks * columns < SERIAL_ELEMENTS);
  backend.release(partials);
}
