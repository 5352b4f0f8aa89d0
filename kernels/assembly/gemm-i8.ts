// Products with int8 weights: y = x W^T (+ bias), x quantised to 15 bits by quantize.ts, W packed by pack-i8.ts.
//
// y[m][n] = (sum over k of x[m][k] w[n][k], an integer) * xScale[m] * rowScale[n] (+ bias[n]). The integer is exact over
// INTEGER_BLOCK steps, and blocks are added in order in float32: y has the same bits in both builds, on every machine,
// for any number of rows and threads.
//
// A panel holds 8 rows of W: [k / 2][8 rows][2 bytes]. A vector of weights, widened, is 4 rows by 2 k, and one
// instruction multiplies it with a pair of x and adds the two products: the int32 lanes are rows, no sums across lanes.
import { QUANT_UNIT, TILE_TOKENS, paddedSteps, quantTileBytes, quantizeToken } from "./quantize";
import { nextItem, scratch, threads } from "./runtime";

/** Rows of W in a panel. */
export const PANEL_ROWS: i32 = 8;
/** Steps whose products fit in an int32: 1024 * 16383 * 127 < 2^31. Part of the result. Mirrored in src/ops/linear/quantize.ts. */
const INTEGER_BLOCK: i32 = 1024;

/**
 * Bytes of weights an item in a product with a vector, at the most: some 10 µs. Long stretches, because the prefetchers
 * of the two cores lose their way when the threads take turns in short ones (decoding: 4.3 ms by 64 KiB, 3.6 by 256).
 */
const VECTOR_ITEM_BYTES: i32 = 1 << 18;
/** Rows of x (a multiple of TILE_TOKENS) and panels of W an item at the most in a product of matrices. */
const ITEM_TOKENS: i32 = 80;
const ITEM_PANELS: i32 = 16;
const ITEMS_PER_THREAD: i32 = 6;

/** Where scratch holds the sums of a tile, those of a block, and the quantised x of a thread's own. */
const SUMS_AT: usize = 0;
const BLOCK_AT: usize = 192;
const X_AT: usize = 384;

/** Bytes of one panel. */
// @ts-ignore: decorator
@inline
export function panelBytesI8(steps: i32): i32 {
  return paddedSteps(steps) * PANEL_ROWS;
}

/** args: x, panels, rowScales, y, bias (or 0), columns, steps. One row of x; each thread quantises it for itself. */
export function gemvI8(args: usize): void {
  const columns = load<i32>(args, 20);
  const steps = load<i32>(args, 24);
  const panels = (columns + PANEL_ROWS - 1) / PANEL_ROWS;
  const panelBytes = panelBytesI8(steps);
  const panelsPerItem = max(1, min(VECTOR_ITEM_BYTES / panelBytes, panels / (4 * threads)));
  const items = parts(panels, panelsPerItem);
  let isQuantized = false;
  for (let item = nextItem(); item < items; item = nextItem()) {
    if (!isQuantized) quantizeToken(<usize>load<u32>(args), steps, scratch + X_AT, 0, 1);
    isQuantized = true;
    const end = min(panels, (item + 1) * panelsPerItem);
    for (let panel = item * panelsPerItem; panel < end; panel++) {
      multiplyVector(<usize>load<u32>(args, 4) + <usize>(panel * panelBytes), scratch + X_AT, steps);
      finishRow(scratch + SUMS_AT, panel, columns, <usize>load<u32>(args, 8), <usize>load<u32>(args, 16), <usize>load<u32>(args, 12));
    }
  }
}

/** args: x (as quantizeRows leaves it), panels, rowScales, y, yStride (elements), bias (or 0), rows, columns, steps. */
export function gemmI8(args: usize): void {
  const rows = load<i32>(args, 24);
  const panels = (load<i32>(args, 28) + PANEL_ROWS - 1) / PANEL_ROWS;
  let tokens = ITEM_TOKENS;
  let itemPanels = ITEM_PANELS;
  const wanted = ITEMS_PER_THREAD * threads;
  while (itemPanels > 1 && parts(rows, tokens) * parts(panels, itemPanels) < wanted) itemPanels >>= 1;
  while (tokens > 4 * TILE_TOKENS && parts(rows, tokens) * parts(panels, itemPanels) < wanted) tokens -= 4 * TILE_TOKENS;
  const tokenParts = parts(rows, tokens);
  const items = tokenParts * parts(panels, itemPanels);
  for (let item = nextItem(); item < items; item = nextItem()) {
    const row = (item % tokenParts) * tokens;
    const panel = (item / tokenParts) * itemPanels;
    multiplyItem(args, row, min(rows, row + tokens), panel, min(panels, panel + itemPanels));
  }
}

function parts(whole: i32, part: i32): i32 {
  return (whole + part - 1) / part;
}

function multiplyItem(args: usize, firstRow: i32, endRow: i32, firstPanel: i32, endPanel: i32): void {
  const rowScales = <usize>load<u32>(args, 8);
  const yBytes = <usize>load<u32>(args, 16) << 2;
  const bias = <usize>load<u32>(args, 20);
  const columns = load<i32>(args, 28);
  const steps = load<i32>(args, 32);
  const panelBytes = panelBytesI8(steps);
  const tileBytes = quantTileBytes(steps, TILE_TOKENS);
  for (let panel = firstPanel; panel < endPanel; panel++) {
    const weights = <usize>load<u32>(args, 4) + <usize>(panel * panelBytes);
    let x = <usize>load<u32>(args) + <usize>(firstRow / TILE_TOKENS) * tileBytes;
    let y = <usize>load<u32>(args, 12) + <usize>firstRow * yBytes;
    for (let row = firstRow; row < endRow; row += TILE_TOKENS, x += tileBytes) {
      multiplyTile(weights, x, steps);
      const count = min(TILE_TOKENS, endRow - row);
      for (let token = 0; token < count; token++, y += yBytes)
        finishRow(scratch + SUMS_AT + <usize>(token * 32), panel, columns, rowScales, bias, y);
    }
  }
}

/** y[panel's columns] = sums * rowScale (+ bias), of one row of y. */
function finishRow(sums: usize, panel: i32, columns: i32, rowScales: usize, bias: usize, y: usize): void {
  const at = <usize>(panel * PANEL_ROWS * 4);
  const count = columns - panel * PANEL_ROWS;
  let low = f32x4.mul(v128.load(sums), v128.load(rowScales + at));
  let high = f32x4.mul(v128.load(sums, 16), v128.load(rowScales + at, 16));
  if (count >= PANEL_ROWS) {
    if (bias) {
      low = f32x4.add(low, v128.load(bias + at));
      high = f32x4.add(high, v128.load(bias + at, 16));
    }
    v128.store(y + at, low);
    v128.store(y + at, high, 16);
    return;
  }
  v128.store(sums, low);
  v128.store(sums, high, 16);
  for (let i = 0; i < count; i++) {
    const offset = <usize>(i << 2);
    const value = load<f32>(sums + offset);
    store<f32>(y + at + offset, bias ? value + load<f32>(bias + at + offset) : value);
  }
}

/** sums[8] = one panel times one row of x (a tile of one token), without the row scales. */
function multiplyVector(w: usize, x: usize, steps: i32): void {
  const padded = paddedSteps(steps);
  const scale = v128.load32_splat(x + <usize>(padded << 1));
  let sum0 = f32x4.splat(0), sum1 = f32x4.splat(0);
  for (let start = 0; start < padded; start += INTEGER_BLOCK) {
    let c0 = i32x4.splat(0), c1 = i32x4.splat(0);
    const end = min(padded, start + INTEGER_BLOCK);
    for (let k = start; k < end; k += QUANT_UNIT) {
      const pair = v128.load32_splat(x);
      c0 = i32x4.add(c0, i32x4.dot_i16x8_s(v128.load8x8_s(w), pair));
      c1 = i32x4.add(c1, i32x4.dot_i16x8_s(v128.load8x8_s(w, 8), pair));
      x += QUANT_UNIT * 2;
      w += QUANT_UNIT * PANEL_ROWS;
    }
    sum0 = f32x4.add(sum0, f32x4.convert_i32x4_s(c0));
    sum1 = f32x4.add(sum1, f32x4.convert_i32x4_s(c1));
  }
  v128.store(scratch + SUMS_AT, f32x4.mul(sum0, scale));
  v128.store(scratch + SUMS_AT, f32x4.mul(sum1, scale), 16);
}

/** sums[5][8] = one panel times a tile of five tokens, without the row scales. */
function multiplyTile(w: usize, x: usize, steps: i32): void {
  const padded = paddedSteps(steps);
  const scales = x + <usize>((padded * TILE_TOKENS) << 1);
  memory.fill(scratch + SUMS_AT, 0, <usize>(TILE_TOKENS * PANEL_ROWS * 4));
  let k = padded;
  for (; k > INTEGER_BLOCK; k -= INTEGER_BLOCK) {
    sumBlock(w, x, INTEGER_BLOCK, scratch + BLOCK_AT);
    addBlock();
    w += INTEGER_BLOCK * PANEL_ROWS;
    x += INTEGER_BLOCK * TILE_TOKENS * 2;
  }
  sumBlock(w, x, k, scratch + BLOCK_AT);
  addBlock();
  for (let token: usize = 0; token < <usize>TILE_TOKENS; token++) {
    const sums = scratch + SUMS_AT + token * 32;
    const scale = v128.load32_splat(scales + token * 4);
    v128.store(sums, f32x4.mul(v128.load(sums), scale));
    v128.store(sums, f32x4.mul(v128.load(sums, 16), scale), 16);
  }
}

/** sums += block. */
// @ts-ignore: decorator
@inline
function addBlock(): void {
  for (let at = scratch; at < scratch + <usize>(TILE_TOKENS * PANEL_ROWS * 4); at += 16)
    v128.store(at, f32x4.add(v128.load(at, SUMS_AT), f32x4.convert_i32x4_s(v128.load(at, BLOCK_AT))), SUMS_AT);
}

/**
 * block[5][8] = integer sums over `steps` values of k. The form matters: 10 sums, 2 vectors of weights and 1 splat of x
 * fit the 15 registers that V8 has, and V8 keeps the order of the source only in a loop that stands alone, one step a
 * turn, from zero, with plain stores. Called twice above, so that Binaryen does not inline it.
 */
function sumBlock(w: usize, x: usize, steps: i32, block: usize): void {
  let c00 = i32x4.splat(0), c01 = i32x4.splat(0);
  let c10 = i32x4.splat(0), c11 = i32x4.splat(0);
  let c20 = i32x4.splat(0), c21 = i32x4.splat(0);
  let c30 = i32x4.splat(0), c31 = i32x4.splat(0);
  let c40 = i32x4.splat(0), c41 = i32x4.splat(0);
  for (let k = 0; k < steps; k += QUANT_UNIT) {
    const w0 = v128.load8x8_s(w);
    const w1 = v128.load8x8_s(w, 8);
    const x0 = v128.load32_splat(x);
    c00 = i32x4.add(c00, i32x4.dot_i16x8_s(w0, x0));
    c01 = i32x4.add(c01, i32x4.dot_i16x8_s(w1, x0));
    const x1 = v128.load32_splat(x, 4);
    c10 = i32x4.add(c10, i32x4.dot_i16x8_s(w0, x1));
    c11 = i32x4.add(c11, i32x4.dot_i16x8_s(w1, x1));
    const x2 = v128.load32_splat(x, 8);
    c20 = i32x4.add(c20, i32x4.dot_i16x8_s(w0, x2));
    c21 = i32x4.add(c21, i32x4.dot_i16x8_s(w1, x2));
    const x3 = v128.load32_splat(x, 12);
    c30 = i32x4.add(c30, i32x4.dot_i16x8_s(w0, x3));
    c31 = i32x4.add(c31, i32x4.dot_i16x8_s(w1, x3));
    const x4 = v128.load32_splat(x, 16);
    c40 = i32x4.add(c40, i32x4.dot_i16x8_s(w0, x4));
    c41 = i32x4.add(c41, i32x4.dot_i16x8_s(w1, x4));
    w += QUANT_UNIT * PANEL_ROWS;
    x += QUANT_UNIT * TILE_TOKENS * 2;
  }
  v128.store(block, c00, 0);
  v128.store(block, c01, 16);
  v128.store(block, c10, 32);
  v128.store(block, c11, 48);
  v128.store(block, c20, 64);
  v128.store(block, c21, 80);
  v128.store(block, c30, 96);
  v128.store(block, c31, 112);
  v128.store(block, c40, 128);
  v128.store(block, c41, 144);
}
