// siluGate: y = x silu(z), and its gradients.
import { rowOf } from "./add";
import { fma, sigmoid, silu } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/** args: x, xStride, z, zStride, y, yStride, rows, columns. */
export function siluGate(args: usize): void {
  const rows = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++)
      gateRow(rowOf(args, 0, row), rowOf(args, 8, row), rowOf(args, 16, row), columns);
  }
}

function gateRow(x: usize, z: usize, y: usize, columns: i32): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(y + at, f32x4.mul(v128.load(x + at), silu(v128.load(z + at))));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    v128.store32_lane(y + at, f32x4.mul(v128.load32_zero(x + at), silu(v128.load32_zero(z + at))), 0);
  }
}

/** args: x, xStride, z, zStride, gradY, gradYStride, gradX, gradXStride, gradZ (0: not wanted), gradZStride, rows, columns. */
export function siluGateBackward(args: usize): void {
  const hasGradZ = load<u32>(args, 32) != 0;
  const rows = load<i32>(args, 40);
  const columns = load<i32>(args, 44);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const gradX = rowOf(args, 24, row);
      const gradZ = hasGradZ ? rowOf(args, 32, row) : 0;
      addGrads(rowOf(args, 0, row), rowOf(args, 8, row), rowOf(args, 16, row), gradX, gradZ, columns);
    }
  }
}

/**
 * gradX += gradY z s; gradZ += gradY x s (1 + z (1 - s)), s = sigmoid(z).
 * gradX is not optional: were s needed under conditions only, V8 would compute it again under each.
 */
function addGrads(x: usize, z: usize, gradY: usize, gradX: usize, gradZ: usize, columns: i32): void {
  const one = f32x4.splat(1);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    const gate = v128.load(z + at);
    const s = sigmoid(gate);
    const flow = f32x4.mul(v128.load(gradY + at), s);
    v128.store(gradX + at, fma(flow, gate, v128.load(gradX + at)));
    if (!gradZ) continue;
    const slope = fma(gate, f32x4.sub(one, s), one);
    v128.store(gradZ + at, fma(f32x4.mul(flow, v128.load(x + at)), slope, v128.load(gradZ + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const gate = v128.load32_zero(z + at);
    const s = sigmoid(gate);
    const flow = f32x4.mul(v128.load32_zero(gradY + at), s);
    v128.store32_lane(gradX + at, fma(flow, gate, v128.load32_zero(gradX + at)), 0);
    if (!gradZ) continue;
    const slope = fma(gate, f32x4.sub(one, s), one);
    const sum = fma(f32x4.mul(flow, v128.load32_zero(x + at)), slope, v128.load32_zero(gradZ + at));
    v128.store32_lane(gradZ + at, sum, 0);
  }
}
