// crossEntropy: the negative log likelihood of a target under softmax(logits), by rows, its mean, and its gradient.
// One pass over the logits: blocks that fit the first cache, each with its maximum first, the sum rescaled when the
// maximum rises (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax").
import { rowOf } from "./add";
import { integerAt } from "./embedding";
import { exp, expScalar, sum4 } from "./math";
import { nextItem } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;
/** Columns whose maximum is found before their exponentials are added up: 8 KiB, for the first cache. */
const BLOCK: i32 = 1 << 11;

/** args: logits, logitsStride, targets, targetsStride, targetsColumns, losses, logSumExp (0: not wanted), rows, vocabulary, ignoreIndex. */
export function crossEntropy(args: usize): void {
  const losses = <usize>load<u32>(args, 20);
  const logSumExp = <usize>load<u32>(args, 24);
  const rows = load<i32>(args, 28);
  const vocabulary = load<i32>(args, 32);
  const ignoreIndex = load<i32>(args, 36);
  const rowsPerItem = max(1, ITEM_ELEMENTS / vocabulary);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const target = integerAt(args, 8, row);
      const at = <usize>row << 2;
      if (target == ignoreIndex) store<f32>(losses + at, 0);
      else storeLoss(rowOf(args, 0, row), vocabulary, target, losses + at, logSumExp ? logSumExp + at : 0);
    }
  }
}

function storeLoss(logits: usize, vocabulary: i32, target: i32, loss: usize, logSumExp: usize): void {
  let largest: f32 = -Infinity;
  let sum: f64 = 0;
  for (let start = 0; start < vocabulary; start += BLOCK) {
    const block = logits + (<usize>start << 2);
    const count = min(BLOCK, vocabulary - start);
    const before = largest;
    largest = max<f32>(largest, maximum(block, count));
    // Minus infinity minus itself would be NaN.
    const shift: f32 = largest == -Infinity ? 0 : largest;
    sum = sum * expScalar(before - shift) + sumOfExp(block, count, shift);
  }
  const logSum = Math.log(sum);
  if (logSumExp) store<f32>(logSumExp, <f32>(largest + logSum));
  const logit = <u32>target < <u32>vocabulary ? load<f32>(logits + (<usize>target << 2)) : NaN;
  store<f32>(loss, <f32>(<f64>largest - <f64>logit + logSum));
}

/** Largest of the numbers, passing over NaN (which comes out of their sum) by pmax, one instruction where max takes six. */
function maximum(x: usize, count: i32): f32 {
  let a = f32x4.splat(-Infinity);
  let b = a;
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const at = x + (<usize>i << 2);
    a = f32x4.pmax(a, v128.load(at));
    b = f32x4.pmax(b, v128.load(at, 16));
  }
  a = f32x4.pmax(a, b);
  for (; i < count; i++) a = f32x4.pmax(a, v128.load32_splat(x + (<usize>i << 2)));
  a = f32x4.pmax(a, i8x16.shuffle(a, a, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return max<f32>(f32x4.extract_lane(a, 0), f32x4.extract_lane(a, 1));
}

/** Sum of e^(x - shift). */
function sumOfExp(x: usize, count: i32, shift: f32): f32 {
  const shifts = f32x4.splat(shift);
  let a = f32x4.splat(0);
  let b = a;
  let i = 0;
  for (; i + 8 <= count; i += 8) {
    const at = x + (<usize>i << 2);
    a = f32x4.add(a, exp(f32x4.sub(v128.load(at), shifts)));
    b = f32x4.add(b, exp(f32x4.sub(v128.load(at, 16), shifts)));
  }
  let sum = sum4(f32x4.add(a, b));
  for (; i < count; i++) sum += expScalar(load<f32>(x + (<usize>i << 2)) - shift);
  return sum;
}

/**
 * loss = mean of the losses of the rows that are not ignored; 0 when all are. One thread, so run it serial.
 * args: losses, rows, targets, targetsStride, targetsColumns, loss, inverseCount (0: not wanted), ignoreIndex.
 */
export function meanLoss(args: usize): void {
  if (nextItem() != 0) return;
  const losses = <usize>load<u32>(args);
  const rows = load<i32>(args, 4);
  const inverseCount = <usize>load<u32>(args, 24);
  const ignoreIndex = load<i32>(args, 28);
  let sum: f64 = 0;
  let count: i32 = 0;
  for (let row = 0; row < rows; row++) {
    if (integerAt(args, 8, row) == ignoreIndex) continue;
    sum += <f64>load<f32>(losses + (<usize>row << 2));
    count++;
  }
  const inverse: f64 = count == 0 ? 0 : 1 / <f64>count;
  store<f32>(load<u32>(args, 20), <f32>(sum * inverse));
  if (inverseCount) store<f32>(inverseCount, <f32>inverse);
}

/**
 * gradLogits += (softmax(logits) - onehot(target)) * (gradLoss / count + gradLosses[row]).
 * args: logits, logitsStride, targets, targetsStride, targetsColumns, gradLogits, gradLogitsStride, logSumExp,
 * inverseCount, gradLoss (0: none), gradLosses (0: none), rows, vocabulary, ignoreIndex.
 */
export function crossEntropyBackward(args: usize): void {
  const logSumExp = <usize>load<u32>(args, 28);
  const gradLoss = <usize>load<u32>(args, 36);
  const gradLosses = <usize>load<u32>(args, 40);
  const rows = load<i32>(args, 44);
  const vocabulary = load<i32>(args, 48);
  const ignoreIndex = load<i32>(args, 52);
  const shared: f32 = gradLoss ? load<f32>(gradLoss) * load<f32>(load<u32>(args, 32)) : 0;
  const rowsPerItem = max(1, ITEM_ELEMENTS / vocabulary);
  const items = (rows + rowsPerItem - 1) / rowsPerItem;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * rowsPerItem);
    for (let row = item * rowsPerItem; row < end; row++) {
      const target = integerAt(args, 8, row);
      if (target == ignoreIndex) continue;
      const at = <usize>row << 2;
      const factor = shared + (gradLosses ? load<f32>(gradLosses + at) : 0);
      const grad = rowOf(args, 20, row);
      addSoftmax(rowOf(args, 0, row), grad, load<f32>(logSumExp + at), factor, vocabulary);
      if (<u32>target >= <u32>vocabulary) continue;
      const atTarget = grad + (<usize>target << 2);
      store<f32>(atTarget, load<f32>(atTarget) - factor);
    }
  }
}

/** grad += e^(logits - logSumExp) factor. */
function addSoftmax(logits: usize, grad: usize, logSumExp: f32, factor: f32, count: i32): void {
  const shift = f32x4.splat(logSumExp);
  const factors = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = <usize>i << 2;
    const softmax = exp(f32x4.sub(v128.load(logits + at), shift));
    v128.store(grad + at, f32x4.add(v128.load(grad + at), f32x4.mul(softmax, factors)));
  }
  for (; i < count; i++) {
    const at = <usize>i << 2;
    store<f32>(grad + at, load<f32>(grad + at) + expScalar(load<f32>(logits + at) - logSumExp) * factor);
  }
}
