// expertMlp: pairs (token, slot) sorted by their expert, products of each expert's rows, and what lies between them.
// Everything is read from memory at the time of running, nothing from the host, so that plans can replay it.
import { rowOf } from "./add";
import { evenPart, multiplyItem, parts } from "./gemm-f32";
import { fma, sigmoid, sum4 } from "./math";
import { nextItem, scratch, threads } from "./runtime";

/** About this many elements an item. */
const ITEM_ELEMENTS: i32 = 1 << 13;
/** Arguments of one expert's product, in scratch memory that products leave alone. */
const PRODUCT_AT: usize = 1 << 20;
/** At most this many rows and columns an item: see gemm-f32.ts. */
const ITEM_ROWS: i32 = 192;
const ITEM_COLUMNS: i32 = 256;

/**
 * Counting sort. starts[e] = first place of expert e (and starts[experts] = pairs), order[place] = pair,
 * places[pair] = place; pairs of an expert keep their order. One thread, so run it serial.
 * args: choices, pairs, experts, starts, order, places.
 */
export function sortByExpert(args: usize): void {
  if (nextItem() != 0) return;
  const choices = <usize>load<u32>(args);
  const pairs = load<i32>(args, 4);
  const experts = load<i32>(args, 8);
  const starts = <usize>load<u32>(args, 12);
  const order = <usize>load<u32>(args, 16);
  const places = <usize>load<u32>(args, 20);
  memory.fill(starts, 0, <usize>(experts + 1) << 2);
  for (let pair = 0; pair < pairs; pair++) {
    const at = starts + (<usize>(expertAt(choices, pair, experts) + 1) << 2);
    store<i32>(at, load<i32>(at) + 1);
  }
  for (let e = 0; e < experts; e++) {
    const at = starts + (<usize>e << 2);
    store<i32>(at, load<i32>(at) + load<i32>(at, 4), 4);
  }
  for (let pair = 0; pair < pairs; pair++) {
    const at = starts + (<usize>expertAt(choices, pair, experts) << 2);
    const place = load<i32>(at);
    store<i32>(at, place + 1);
    store<i32>(order + (<usize>place << 2), pair);
    store<i32>(places + (<usize>pair << 2), place);
  }
  // Each start has moved to the next one.
  memory.copy(starts + 4, starts, <usize>experts << 2);
  store<i32>(starts, 0);
}

function expertAt(choices: usize, pair: i32, experts: i32): i32 {
  return <i32>min(load<u32>(choices + (<usize>pair << 2)), <u32>(experts - 1));
}

/** to[place] = from[token of the pair at place]. args: from, fromStride, to, toStride, order, pairs, topK, columns. */
export function gatherTokens(args: usize): void {
  const order = <usize>load<u32>(args, 16);
  const pairs = load<i32>(args, 20);
  const topK = load<i32>(args, 24);
  const columns = load<i32>(args, 28);
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = parts(pairs, rowsPerItem);
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(pairs, (item + 1) * rowsPerItem);
    for (let place = item * rowsPerItem; place < end; place++) {
      const pair = load<i32>(order + (<usize>place << 2));
      memory.copy(rowOf(args, 8, place), rowOf(args, 0, pair / topK), <usize>columns << 2);
    }
  }
}

/**
 * y[token] (+)= sum over slots of gate * rows[place of the pair], slot by slot.
 * args: rows, rowsStride, y, yStride, places, gates (0: all 1), tokens, topK, columns, isAdding.
 */
export function combineExperts(args: usize): void {
  const places = <usize>load<u32>(args, 16);
  const gates = <usize>load<u32>(args, 20);
  const tokens = load<i32>(args, 24);
  const topK = load<i32>(args, 28);
  const columns = load<i32>(args, 32);
  const isAdding = load<i32>(args, 36) != 0;
  const rowsPerItem = max(1, ITEM_ELEMENTS / (columns * topK));
  const items = parts(tokens, rowsPerItem);
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(tokens, (item + 1) * rowsPerItem);
    for (let token = item * rowsPerItem; token < end; token++) {
      const y = rowOf(args, 8, token);
      if (!isAdding) memory.fill(y, 0, <usize>columns << 2);
      for (let slot = 0; slot < topK; slot++) {
        const at = <usize>(token * topK + slot) << 2;
        addScaledRow(rowOf(args, 0, load<i32>(places + at)), gates ? load<f32>(gates + at) : 1, y, columns);
      }
    }
  }
}

/** y += factor * x. */
function addScaledRow(x: usize, factor: f32, y: usize, columns: i32): void {
  const factors = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= columns; i += 4) {
    const at = <usize>i << 2;
    v128.store(y + at, fma(factors, v128.load(x + at), v128.load(y + at)));
  }
  for (; i < columns; i++) {
    const at = <usize>i << 2;
    v128.store32_lane(y + at, fma(factors, v128.load32_zero(x + at), v128.load32_zero(y + at)), 0);
  }
}

/**
 * gemmF32 for each expert e, over the places [starts[e], starts[e + 1]): these are rows of A and C, and e chooses an entry
 * of B; or, with bySteps, they are what is summed over, rows of memory of both A and B, and e chooses an entry of C.
 * args: those of gemmF32 (its rows, or with bySteps its steps, are not read), starts, experts, bySteps, entry (elements).
 */
export function expertGemm(args: usize): void {
  const starts = <usize>load<u32>(args, 52);
  const experts = load<i32>(args, 56);
  const bySteps = load<i32>(args, 60) != 0;
  const columns = load<i32>(args, 44);
  const own = scratch + PRODUCT_AT;
  memory.copy(own, args, 52);
  let item = nextItem();
  let before = 0;
  for (let e = 0; e < experts; e++) {
    const start = load<i32>(starts + (<usize>e << 2));
    const count = load<i32>(starts + (<usize>e << 2), 4) - start;
    if (count == 0) continue;
    const rows = bySteps ? load<i32>(args, 40) : count;
    let itemRows = evenPart(rows, ITEM_ROWS, 6);
    let itemColumns = evenPart(columns, ITEM_COLUMNS, 8);
    while (experts * parts(rows, itemRows) * parts(columns, itemColumns) < 6 * threads) {
      if (itemRows > 48 && itemRows >= itemColumns) itemRows = evenPart(rows, itemRows >> 1, 6);
      else if (itemColumns > 64) itemColumns = evenPart(columns, itemColumns >> 1, 8);
      else break;
    }
    const rowParts = parts(rows, itemRows);
    const items = rowParts * parts(columns, itemColumns);
    if (item < before + items) placeExpert(args, own, e, start, count, bySteps);
    for (; item < before + items; item = nextItem()) {
      const row = ((item - before) % rowParts) * itemRows;
      const column = ((item - before) / rowParts) * itemColumns;
      multiplyItem(own, row, min(itemRows, rows - row), column, min(itemColumns, columns - column));
    }
    before += items;
  }
}

/** Writes the arguments of one expert's product. */
function placeExpert(args: usize, own: usize, e: i32, start: i32, count: i32, bySteps: bool): void {
  const entryBytes = <u32>e * (load<u32>(args, 64) << 2);
  const aStride = load<u32>(args + (bySteps ? 8 : 4));
  store<u32>(own, load<u32>(args) + ((<u32>start * aStride) << 2));
  if (bySteps) {
    store<u32>(own, load<u32>(args, 12) + ((<u32>start * load<u32>(args, 20)) << 2), 12);
    store<u32>(own, load<u32>(args, 24) + entryBytes, 24);
    store<i32>(own, count, 48);
  } else {
    store<u32>(own, load<u32>(args, 12) + entryBytes, 12);
    store<u32>(own, load<u32>(args, 24) + ((<u32>start * load<u32>(args, 28)) << 2), 24);
    store<i32>(own, count, 40);
  }
}

/**
 * For each place, of a pair with gate g: h = u silu(z); gradGates[pair] += q.h; gh = g h; [gradU, gradZ] from the gradient g q
 * of h. args: uz (places, 2 dInner), q, order, gates, gradGates (0: not wanted), gh, gradUZ, pairs, dInner.
 */
export function expertGateBackward(args: usize): void {
  const order = <usize>load<u32>(args, 8);
  const gates = <usize>load<u32>(args, 12);
  const gradGates = <usize>load<u32>(args, 16);
  const pairs = load<i32>(args, 28);
  const columns = load<i32>(args, 32);
  const bytes = <usize>columns << 2;
  const rowsPerItem = max(1, ITEM_ELEMENTS / columns);
  const items = parts(pairs, rowsPerItem);
  for (let item = nextItem(); item < items; item = nextItem()) {
    const end = min(pairs, (item + 1) * rowsPerItem);
    for (let place = item * rowsPerItem; place < end; place++) {
      const at = load<u32>(order + (<usize>place << 2)) << 2;
      const u = <usize>load<u32>(args) + <usize>place * 2 * bytes;
      const q = <usize>load<u32>(args, 4) + <usize>place * bytes;
      const gh = <usize>load<u32>(args, 20) + <usize>place * bytes;
      const gradU = <usize>load<u32>(args, 24) + <usize>place * 2 * bytes;
      const sum = gateBackwardRow(u, q, load<f32>(gates + at), gh, gradU, columns);
      if (gradGates) store<f32>(gradGates + at, load<f32>(gradGates + at) + sum);
    }
  }
}

/** @returns q.h */
function gateBackwardRow(u: usize, q: usize, gate: f32, gh: usize, gradU: usize, columns: i32): f32 {
  const toZ = <usize>columns << 2;
  const gates = f32x4.splat(gate);
  const one = f32x4.splat(1);
  let sums = f32x4.splat(0);
  let i = 0;
  for (; i + 4 <= columns; i += 4) {
    const at = <usize>i << 2;
    const zs = v128.load(u + toZ + at);
    const us = v128.load(u + at);
    const qs = v128.load(q + at);
    const s = sigmoid(zs);
    const silu = f32x4.mul(zs, s);
    const h = f32x4.mul(us, silu);
    const flow = f32x4.mul(gates, qs);
    sums = fma(qs, h, sums);
    v128.store(gh + at, f32x4.mul(gates, h));
    v128.store(gradU + at, f32x4.mul(flow, silu));
    v128.store(gradU + toZ + at, f32x4.mul(f32x4.mul(flow, us), f32x4.mul(s, fma(zs, f32x4.sub(one, s), one))));
  }
  for (; i < columns; i++) {
    const at = <usize>i << 2;
    const zs = v128.load32_zero(u + toZ + at);
    const us = v128.load32_zero(u + at);
    const qs = v128.load32_zero(q + at);
    const s = sigmoid(zs);
    const silu = f32x4.mul(zs, s);
    const h = f32x4.mul(us, silu);
    const flow = f32x4.mul(gates, qs);
    sums = fma(qs, h, sums);
    v128.store32_lane(gh + at, f32x4.mul(gates, h), 0);
    v128.store32_lane(gradU + at, f32x4.mul(flow, silu), 0);
    v128.store32_lane(gradU + toZ + at, f32x4.mul(f32x4.mul(flow, us), f32x4.mul(s, fma(zs, f32x4.sub(one, s), one))), 0);
  }
  return sum4(sums);
}
