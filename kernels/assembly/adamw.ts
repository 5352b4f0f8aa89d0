// adamw: one step of AdamW in place, and multiplication of a tensor by a number.
import { rowOf } from "./add";
import { fma } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;

/**
 * args: parameter, grad, m, v, count, gradScale, beta1, 1 - beta1, beta2, 1 - beta2, learningRate / (1 - beta1^step),
 * 1 / sqrt(1 - beta2^step), eps, learningRate * weightDecay (the last eight float32).
 */
export function adamw(args: usize): void {
  const count = load<i32>(args, 16);
  const items = (count + ITEM_ELEMENTS - 1) / ITEM_ELEMENTS;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(count, (item + 1) * ITEM_ELEMENTS);
    let i = item * ITEM_ELEMENTS;
    for (; i + 4 <= end; i += 4) stepAt(args, <usize>i << 2, false);
    for (; i < end; i++) stepAt(args, <usize>i << 2, true);
  }
}

/**
 * Four elements, or one. The decay and the step are taken from the parameter in one subtraction: 1 - lr * decay
 * is so near to 1 that rounding it to float32 would change the decay by a percent.
 */
// @ts-ignore: decorator
@inline
function stepAt(args: usize, at: usize, isSingle: bool): void {
  const parameterAt = <usize>load<u32>(args) + at;
  const mAt = <usize>load<u32>(args, 8) + at;
  const vAt = <usize>load<u32>(args, 12) + at;
  const g = f32x4.mul(get(<usize>load<u32>(args, 4) + at, isSingle), v128.load32_splat(args, 20));
  const m = fma(g, v128.load32_splat(args, 28), f32x4.mul(get(mAt, isSingle), v128.load32_splat(args, 24)));
  const squared = f32x4.mul(g, g);
  const v = fma(squared, v128.load32_splat(args, 36), f32x4.mul(get(vAt, isSingle), v128.load32_splat(args, 32)));
  const root = fma(f32x4.sqrt(v), v128.load32_splat(args, 44), v128.load32_splat(args, 48));
  const step = f32x4.div(f32x4.mul(m, v128.load32_splat(args, 40)), root);
  const parameter = get(parameterAt, isSingle);
  put(mAt, m, isSingle);
  put(vAt, v, isSingle);
  put(parameterAt, f32x4.sub(parameter, fma(parameter, v128.load32_splat(args, 52), step)), isSingle);
}

// @ts-ignore: decorator
@inline
function get(at: usize, isSingle: bool): v128 {
  return isSingle ? v128.load32_zero(at) : v128.load(at);
}

// @ts-ignore: decorator
@inline
function put(at: usize, value: v128, isSingle: bool): void {
  if (isSingle) v128.store32_lane(at, value, 0);
  else v128.store(at, value);
}

/**
 * x *= factor, an item a row. The last row may be shorter: there are `count` elements in all, so that a vector is a
 * matrix of rows of any width. args: x, xStride, columns, count, factor.
 */
export function scaleInPlace(args: usize): void {
  const columns = load<u32>(args, 8);
  const count = load<u32>(args, 12);
  const factor = load<f32>(args, 16);
  const rows = <i32>((count + columns - 1) / columns);
  for (let row = nextItem(); row < rows; row = nextItem())
    scaleRow(rowOf(args, 0, row), factor, <i32>min<u32>(columns, count - <u32>row * columns));
}

function scaleRow(x: usize, factor: f32, columns: i32): void {
  const factors = f32x4.splat(factor);
  let column = 0;
  for (; column + 4 <= columns; column += 4) {
    const at = x + (<usize>column << 2);
    v128.store(at, f32x4.mul(v128.load(at), factors));
  }
  for (; column < columns; column++) {
    const at = x + (<usize>column << 2);
    store<f32>(at, load<f32>(at) * factor);
  }
}
