// The cache of cachedAttention: new keys and values go behind those that are there; and lengths that grow.
import { arg } from "./attention-tiles";
import { rowOf } from "./add";
import { nextItem } from "./runtime";

/** args: k, kStride, v, vStride, keys, values, lengths, batch, length, capacity, columns. Rows beyond the capacity are left. */
export function cacheAppend(args: usize): void {
  const lengths = arg(args, 6);
  const length = <i32>arg(args, 8);
  const capacity = <i32>arg(args, 9);
  const bytes = arg(args, 10) << 2;
  const rows = <i32>arg(args, 7) * length;
  for (let row = nextItem(); row < rows; row = nextItem()) {
    const sequence = row / length;
    const place = load<i32>(lengths + (<usize>sequence << 2)) + (row % length);
    if (place >= capacity) continue;
    const at = <usize>(sequence * capacity + place) * bytes;
    memory.copy(arg(args, 4) + at, rowOf(args, 0, row), bytes);
    memory.copy(arg(args, 5) + at, rowOf(args, 8, row), bytes);
  }
}

/** args: lengths, count, by. */
export function advanceLengths(args: usize): void {
  const lengths = arg(args, 0);
  const by = <i32>arg(args, 2);
  for (let i: usize = 0; i < arg(args, 1); i++) store<i32>(lengths + (i << 2), load<i32>(lengths + (i << 2)) + by);
}
