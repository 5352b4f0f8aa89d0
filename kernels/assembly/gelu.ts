// gelu: y = x Φ(x), and its gradient; exactly, or by the approximation with tanh. See src/ops/gelu/README.md.
import { rowOf } from "./add";
import { exp, fma, fnma, sigmoid } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/**
 * -1/2, 1/√(2π), 0.23, the coefficients of {@link tail}, and the magnitude from which on Φ is 0 or 1: there e^(-x²/2) is
 * exactly 0. Then 2 √(2/π), that times 0.044715, and that times 3, for the approximation.
 */
const CONSTANTS: usize = memory.data<f32>([
  -0.5, 0.3989422804, 0.23,
  0.09190774708986282, 0.08914203196763992, 0.10610343515872955, -0.0007326881750486791,
  0.2535971403121948, -0.2349843829870224, 0.2688492238521576, -0.07388242334127426,
  14, 1.5957691216, 0.0713548162726, 0.2140644488178,
], 16);

// @ts-ignore: decorator
@inline
function constant(index: usize): v128 {
  return v128.load32_splat(CONSTANTS + (index << 2));
}

/** args: x, xStride, y, yStride, rows, columns, whether by tanh. */
export function gelu(args: usize): void {
  const rows = load<i32>(args, 16);
  const columns = load<i32>(args, 20);
  const isTanh = load<i32>(args, 24) != 0;
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      if (isTanh) geluRow(rowOf(args, 0, row), rowOf(args, 8, row), columns, true);
      else geluRow(rowOf(args, 0, row), rowOf(args, 8, row), columns, false);
    }
  }
}

// @ts-ignore: decorator
@inline
function geluRow(x: usize, y: usize, columns: i32, isTanh: bool): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(y + at, value(v128.load(x + at), isTanh));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    v128.store32_lane(y + at, value(v128.load32_zero(x + at), isTanh), 0);
  }
}

/** args: x, xStride, gradY, gradYStride, gradX, gradXStride, rows, columns, whether by tanh. */
export function geluBackward(args: usize): void {
  const rows = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const isTanh = load<i32>(args, 32) != 0;
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const gradX = rowOf(args, 16, row);
      if (isTanh) addGrads(rowOf(args, 0, row), rowOf(args, 8, row), gradX, columns, true);
      else addGrads(rowOf(args, 0, row), rowOf(args, 8, row), gradX, columns, false);
    }
  }
}

// @ts-ignore: decorator
@inline
function addGrads(x: usize, gradY: usize, gradX: usize, columns: i32, isTanh: bool): void {
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = <usize>column << 2;
    v128.store(gradX + at, fma(v128.load(gradY + at), slope(v128.load(x + at), isTanh), v128.load(gradX + at)));
  }
  for (; column < columns; column++) {
    const at = <usize>column << 2;
    const through = slope(v128.load32_zero(x + at), isTanh);
    v128.store32_lane(gradX + at, fma(v128.load32_zero(gradY + at), through, v128.load32_zero(gradX + at)), 0);
  }
}

// @ts-ignore: decorator
@inline
function value(x: v128, isTanh: bool): v128 {
  if (isTanh) return f32x4.mul(x, sigmoid(f32x4.mul(x, scaleOf(f32x4.mul(x, x)))));
  const size = f32x4.pmin(f32x4.abs(x), constant(11));
  // x Φ(x) is max(x, 0) less |x| times the tail beyond |x|.
  return fnma(size, tail(size, bell(size)), f32x4.pmax(x, f32x4.splat(0)));
}

// @ts-ignore: decorator
@inline
function slope(x: v128, isTanh: bool): v128 {
  const one = f32x4.splat(1);
  if (isTanh) {
    const square = f32x4.mul(x, x);
    const s = sigmoid(f32x4.mul(x, scaleOf(square)));
    const inner = f32x4.mul(x, fma(square, constant(14), constant(12)));
    return fma(f32x4.mul(s, f32x4.sub(one, s)), inner, s);
  }
  const size = f32x4.pmin(f32x4.abs(x), constant(11));
  const curve = bell(size);
  const beyond = tail(size, curve);
  const below = v128.bitselect(beyond, f32x4.sub(one, beyond), f32x4.lt(x, f32x4.splat(0)));
  return fma(f32x4.mul(x, constant(1)), curve, below);
}

/** 2 √(2/π) (1 + 0.044715 x²): (1 + tanh(u)) / 2 is sigmoid(2 u). */
// @ts-ignore: decorator
@inline
function scaleOf(square: v128): v128 {
  return fma(square, constant(13), constant(12));
}

/** e^(-x²/2). */
// @ts-ignore: decorator
@inline
function bell(x: v128): v128 {
  return exp(f32x4.mul(f32x4.mul(x, x), constant(0)));
}

/** 1 - Φ(x) for x from 0 on, relative error of the fit 1.3e-7: e^(-x²/2) times a polynomial of t = 1 / (1 + 0.23 x). */
// @ts-ignore: decorator
@inline
function tail(x: v128, curve: v128): v128 {
  const t = f32x4.div(f32x4.splat(1), fma(x, constant(2), f32x4.splat(1)));
  let p = fma(constant(10), t, constant(9));
  p = fma(p, t, constant(8));
  p = fma(p, t, constant(7));
  p = fma(p, t, constant(6));
  p = fma(p, t, constant(5));
  p = fma(p, t, constant(4));
  p = fma(p, t, constant(3));
  return f32x4.mul(f32x4.mul(p, t), curve);
}
