// Matrix-vector product in float32, weights in panels: y = W x (+ bias) for one row of x. Bound by memory.
import { CONTRACTION_BLOCK, PANEL } from "./gemm-f32";
import { mulAdd } from "./linear-simd";
import { nextItem, scratch, threads } from "./runtime";

/** Bytes of weights an item, at the most: some 15 µs. Long, for the prefetchers: see gemm-i8.ts. */
const ITEM_BYTES: i32 = 1 << 18;

/** args: x, panels, y, bias (or 0), columns, steps. */
export function gemvF32(args: usize): void {
  const columns = load<i32>(args, 16);
  const steps = load<i32>(args, 20);
  const pairs = (columns + 2 * PANEL - 1) / (2 * PANEL);
  const pairsPerItem = max(1, min(ITEM_BYTES / (steps * PANEL * 8), pairs / (4 * threads)));
  const items = (pairs + pairsPerItem - 1) / pairsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(pairs, (item + 1) * pairsPerItem);
    for (let pair = item * pairsPerItem; pair < end; pair++) multiplyPair(args, pair * 2 * PANEL, columns, steps);
  }
}

/** Columns [column, column + 16) of y. Two panels at once, because one has too few sums to hide mulAdd's latency. */
function multiplyPair(args: usize, column: i32, columns: i32, steps: i32): void {
  const panelBytes = <usize>(steps * PANEL * 4);
  const isDouble = column + PANEL < columns;
  let b = <usize>load<u32>(args, 4) + <usize>(column / PANEL) * panelBytes;
  let d = isDouble ? b + panelBytes : b;
  let x = <usize>load<u32>(args);
  const sums = scratch;
  loadSums(sums, <usize>load<u32>(args, 12), column, columns);
  for (let k = 0; k < steps; k += CONTRACTION_BLOCK) {
    let b0 = f32x4.splat(0), b1 = f32x4.splat(0), d0 = f32x4.splat(0), d1 = f32x4.splat(0);
    const end = min(steps, k + CONTRACTION_BLOCK);
    for (let i = k; i < end; i++) {
      const a = v128.load32_splat(x);
      b0 = mulAdd(a, v128.load(b), b0);
      b1 = mulAdd(a, v128.load(b, 16), b1);
      d0 = mulAdd(a, v128.load(d), d0);
      d1 = mulAdd(a, v128.load(d, 16), d1);
      x += 4;
      b += PANEL * 4;
      d += PANEL * 4;
    }
    v128.store(sums, f32x4.add(v128.load(sums), b0));
    v128.store(sums, f32x4.add(v128.load(sums, 16), b1), 16);
    v128.store(sums, f32x4.add(v128.load(sums, 32), d0), 32);
    v128.store(sums, f32x4.add(v128.load(sums, 48), d1), 48);
  }
  memory.copy(<usize>load<u32>(args, 8) + (<usize>column << 2), sums, <usize>(min(2 * PANEL, columns - column) << 2));
}

function loadSums(sums: usize, bias: usize, column: i32, columns: i32): void {
  for (let i = 0; i < 2 * PANEL; i++)
    store<f32>(sums + (<usize>i << 2), bias != 0 && column + i < columns ? load<f32>(bias + (<usize>(column + i) << 2)) : 0);
}
