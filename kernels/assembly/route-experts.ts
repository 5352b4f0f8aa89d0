// routeExperts: softmax over experts, the largest of them, and how evenly they are used. See src/ops/route-experts/README.md.
import { rowOf } from "./add";
import { exp, expScalar, sum4 } from "./math";
import { nextItem } from "./runtime";

/** Rows an item; the sums of an item are one partial sum of the balance, so this is a part of the result. */
const ITEM_ROWS: i32 = 64;

/**
 * args: logits, logitsStride, gates, choices, probabilities, partials (an item: sums of p, then counts), rows, experts, topK.
 */
export function routeExperts(args: usize): void {
  const partials = <usize>load<u32>(args, 20);
  const rows = load<i32>(args, 24);
  const experts = load<i32>(args, 28);
  const topK = load<i32>(args, 32);
  const items = (rows + ITEM_ROWS - 1) / ITEM_ROWS;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const sums = partials + <usize>(item * 2 * experts * 4);
    memory.fill(sums, 0, <usize>(2 * experts * 4));
    const end = min(rows, (item + 1) * ITEM_ROWS);
    for (let row = item * ITEM_ROWS; row < end; row++) {
      const logits = rowOf(args, 0, row);
      const p = <usize>load<u32>(args, 16) + <usize>(row * experts * 4);
      softmax(logits, p, experts);
      for (let e = 0; e < experts; e++) addAt(sums, e, floatAt(p, e));
      const at = <usize>(row * topK * 4);
      choose(logits, p, <usize>load<u32>(args, 8) + at, <usize>load<u32>(args, 12) + at, sums + <usize>(experts * 4), experts, topK);
    }
  }
}

function floatAt(p: usize, i: i32): f32 {
  return load<f32>(p + (<usize>i << 2));
}

function addAt(sums: usize, i: i32, value: f32): void {
  const at = sums + (<usize>i << 2);
  store<f32>(at, load<f32>(at) + value);
}

function softmax(logits: usize, p: usize, experts: i32): void {
  let largest: f32 = -Infinity;
  for (let e = 0; e < experts; e++) largest = max<f32>(largest, floatAt(logits, e));
  const shift = f32x4.splat(largest);
  let sums = f32x4.splat(0);
  let e = 0;
  for (; e + 4 <= experts; e += 4) {
    const power = exp(f32x4.sub(v128.load(logits + (<usize>e << 2)), shift));
    v128.store(p + (<usize>e << 2), power);
    sums = f32x4.add(sums, power);
  }
  let sum = sum4(sums);
  for (; e < experts; e++) {
    const power = expScalar(floatAt(logits, e) - largest);
    store<f32>(p + (<usize>e << 2), power);
    sum += power;
  }
  for (e = 0; e < experts; e++) store<f32>(p + (<usize>e << 2), floatAt(p, e) / sum);
}

/** The topK largest, each the first of those that come behind the one before it. */
function choose(logits: usize, p: usize, gates: usize, choices: usize, counts: usize, experts: i32, topK: i32): void {
  let last: f32 = Infinity;
  let lastExpert = -1;
  let sum: f32 = 0;
  for (let slot = 0; slot < topK; slot++) {
    let best = -1;
    for (let e = 0; e < experts; e++) {
      const logit = floatAt(logits, e);
      const isLeft = logit < last || (logit == last && e > lastExpert);
      if (isLeft && (best < 0 || logit > floatAt(logits, best))) best = e;
    }
    // Not a number: any expert, whose gate is not a number either.
    if (best < 0) best = slot;
    last = floatAt(logits, best);
    lastExpert = best;
    sum += floatAt(p, best);
    addAt(counts, best, 1);
    store<i32>(choices + (<usize>slot << 2), best);
    store<f32>(gates + (<usize>slot << 2), floatAt(p, best));
  }
  if (topK == 1) return;
  for (let slot = 0; slot < topK; slot++) store<f32>(gates + (<usize>slot << 2), floatAt(gates, slot) / sum);
}

/** One thread, so run it serial. args: partials, rows, experts, topK, shares (0: not wanted), balance. */
export function routeBalance(args: usize): void {
  if (nextItem() != 0) return;
  const partials = <usize>load<u32>(args);
  const rows = load<i32>(args, 4);
  const experts = load<i32>(args, 8);
  const choices = <f64>rows * <f64>load<i32>(args, 12);
  const shares = <usize>load<u32>(args, 16);
  const items = (rows + ITEM_ROWS - 1) / ITEM_ROWS;
  let balance: f64 = 0;
  for (let e = 0; e < experts; e++) {
    let sum: f64 = 0;
    let count: f64 = 0;
    for (let item = 0; item < items; item++) {
      const own = partials + <usize>(item * 2 * experts * 4);
      sum += <f64>floatAt(own, e);
      count += <f64>floatAt(own, experts + e);
    }
    const share = count / choices;
    if (shares) store<f32>(shares + (<usize>e << 2), <f32>share);
    balance += (share * sum) / <f64>rows;
  }
  store<f32>(load<u32>(args, 20), <f32>(balance * <f64>experts));
}

/**
 * args: probabilities, shares, gates, choices, gradGates (0: none), gradGatesStride, gradLogits, gradLogitsStride,
 * gradBalance (0: none), rows, experts, topK.
 */
export function routeExpertsBackward(args: usize): void {
  const shares = <usize>load<u32>(args, 4);
  const gradBalance = <usize>load<u32>(args, 32);
  const rows = load<i32>(args, 36);
  const experts = load<i32>(args, 40);
  const topK = load<i32>(args, 44);
  const pull: f32 = gradBalance ? (load<f32>(gradBalance) * <f32>experts) / <f32>rows : 0;
  const items = (rows + ITEM_ROWS - 1) / ITEM_ROWS;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(rows, (item + 1) * ITEM_ROWS);
    for (let row = item * ITEM_ROWS; row < end; row++) {
      const p = <usize>load<u32>(args) + <usize>(row * experts * 4);
      const at = <usize>(row * topK * 4);
      const gradGates = load<u32>(args, 16) ? rowOf(args, 16, row) : 0;
      const grad = rowOf(args, 24, row);
      const flow = gradGates ? addToChosen(<usize>load<u32>(args, 8) + at, <usize>load<u32>(args, 12) + at, gradGates, grad, topK) : <f32>0;
      let mean: f32 = 0;
      for (let e = 0; e < experts; e++) mean += floatAt(p, e) * floatAt(shares, e);
      const all: f32 = topK == 1 ? flow : 0;
      for (let e = 0; e < experts; e++) addAt(grad, e, floatAt(p, e) * (pull * (floatAt(shares, e) - mean) - all));
    }
  }
}

/** @returns sum of the gates times their gradients */
function addToChosen(gates: usize, choices: usize, gradGates: usize, grad: usize, topK: i32): f32 {
  let flow: f32 = 0;
  for (let slot = 0; slot < topK; slot++) flow += floatAt(gates, slot) * floatAt(gradGates, slot);
  const mean: f32 = topK == 1 ? 0 : flow;
  for (let slot = 0; slot < topK; slot++)
    addAt(grad, load<i32>(choices + (<usize>slot << 2)), floatAt(gates, slot) * (floatAt(gradGates, slot) - mean));
  return flow;
}
