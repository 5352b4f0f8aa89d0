// sumSquares: the sum of the squares of each row of a matrix, in float64.
import { nextItem } from "./runtime";

/**
 * sums[row] (float64) = sum of x[row]². The last row may be shorter: there are `count` elements in all, so that a
 * vector is a matrix of rows of any width. An item is a row.
 * args: x, xStride, columns, count, sums.
 */
export function sumSquares(args: usize): void {
  const x = <usize>load<u32>(args);
  const stride = <usize>load<u32>(args, 4);
  const columns = load<u32>(args, 8);
  const count = load<u32>(args, 12);
  const sums = <usize>load<u32>(args, 16);
  const rows = <i32>((count + columns - 1) / columns);
  for (let row = nextItem(); row < rows; row = nextItem()) {
    const elements = min<u32>(columns, count - <u32>row * columns);
    store<f64>(sums + (<usize>row << 3), sumRow(x + ((<usize>row * stride) << 2), <i32>elements));
  }
}

function sumRow(x: usize, count: i32): f64 {
  let a = f64x2.splat(0);
  let b = a;
  let c = a;
  let d = a;
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const at = x + (<usize>i << 2);
    a = addSquares(a, v128.load64_zero(at));
    b = addSquares(b, v128.load64_zero(at, 8));
    c = addSquares(c, v128.load64_zero(at, 16));
    d = addSquares(d, v128.load64_zero(at, 24));
  }
  for (; i < count; i++) a = addSquares(a, v128.load32_zero(x + (<usize>i << 2)));
  const total = f64x2.add(f64x2.add(a, b), f64x2.add(c, d));
  return f64x2.extract_lane(total, 0) + f64x2.extract_lane(total, 1);
}

/** sum + x², x the lower two float32 lanes. */
// @ts-ignore: decorator
@inline
function addSquares(sum: v128, x: v128): v128 {
  const wide = f64x2.promote_low_f32x4(x);
  return f64x2.add(sum, f64x2.mul(wide, wide));
}
