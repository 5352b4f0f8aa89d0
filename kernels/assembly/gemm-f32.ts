// Matrix products in float32: C = A B (+ bias) or C += A B, for the linear op forward and backward.
//
// Every element of C is ((c + block 0) + block 1) + ..., a block being the sum over CONTRACTION_BLOCK steps of k in
// order, by mulAdd from zero. Neither the number of rows, nor the division into items, nor the thread enters into it:
// a row of C has the same bits however many rows are computed together (gemv-f32.ts keeps the same order).
//
// The register tile is 6 x 8: 12 sums, 2 vectors of B, 1 splat of A, of the 15 registers that V8 has to give. A is
// packed in tiles [k][6] and B in panels [k][8], so that a step needs two pointers only.
import { mulAdd } from "./linear-simd";
import { packColumnsA, packPanelsAcross, packPanelsAlong, packRowsA } from "./pack-f32";
import { nextItem, scratch, threads } from "./runtime";

/** Rows of C in a register tile. */
export const TILE_ROWS: i32 = 6;
/** Columns of C in a register tile; width of a panel of B. */
export const PANEL: i32 = 8;
/** Steps of k that are summed before they are added to C. Part of the result: see above. */
export const CONTRACTION_BLOCK: i32 = 256;

/** At most this many rows and columns of C an item: packed, A takes 192 KiB and B 256 KiB of the level-2 cache. */
const ITEM_ROWS: i32 = 192;
const ITEM_COLUMNS: i32 = 256;
/** Items a thread, at least, where the product is large enough: a thread that is held up then delays little. */
const ITEMS_PER_THREAD: i32 = 6;

/** Where scratch holds the packed A, the packed B, one tile of C, and the bias of one panel. */
const A_AT: usize = 0;
const B_AT: usize = <usize>(ITEM_ROWS * CONTRACTION_BLOCK * 4);
const TILE_AT: usize = B_AT + <usize>(ITEM_COLUMNS * CONTRACTION_BLOCK * 4);
const BIAS_AT: usize = TILE_AT + <usize>(TILE_ROWS * PANEL * 4);

/** What B's memory holds: panels [columns / 8][k][8] (packed at load), or rows of one column or one k each. */
const B_PANELS: i32 = 0;
const B_ROW_PER_COLUMN: i32 = 1;

/**
 * args: a, aRowStride, aStepStride (elements; one of them is 1), b, bKind, bStride, c, cStride, bias (or 0), isAdding,
 * rows, columns, steps. isAdding: C += A B, and the bias is not used.
 */
export function gemmF32(args: usize): void {
  const rows = load<i32>(args, 40);
  const columns = load<i32>(args, 44);
  let itemRows = evenPart(rows, ITEM_ROWS, TILE_ROWS);
  let itemColumns = evenPart(columns, ITEM_COLUMNS, PANEL);
  while (parts(rows, itemRows) * parts(columns, itemColumns) < ITEMS_PER_THREAD * threads) {
    if (itemRows > 8 * TILE_ROWS && itemRows >= itemColumns) itemRows = evenPart(rows, itemRows >> 1, TILE_ROWS);
    else if (itemColumns > 8 * PANEL) itemColumns = evenPart(columns, itemColumns >> 1, PANEL);
    else break;
  }
  const rowParts = parts(rows, itemRows);
  const items = rowParts * parts(columns, itemColumns);
  for (let item = nextItem(); item < items; item = nextItem()) {
    const row = (item % rowParts) * itemRows;
    const column = (item / rowParts) * itemColumns;
    multiplyItem(args, row, min(itemRows, rows - row), column, min(itemColumns, columns - column));
  }
}

export function parts(whole: i32, part: i32): i32 {
  return (whole + part - 1) / part;
}

/** The part of `whole`, a multiple of `unit` and about `most` at the most, that divides it most evenly. */
export function evenPart(whole: i32, most: i32, unit: i32): i32 {
  const units = parts(whole, unit);
  const mostUnits = max(1, most / unit);
  return parts(units, parts(units, mostUnits)) * unit;
}

/** One item: rows [row, row + rows) and columns [column, column + columns) of C, all k. */
export function multiplyItem(args: usize, row: i32, rows: i32, column: i32, columns: i32): void {
  const steps = load<i32>(args, 48);
  const bKind = load<i32>(args, 16);
  for (let k = 0; k < steps; k += CONTRACTION_BLOCK) {
    const blockSteps = min(CONTRACTION_BLOCK, steps - k);
    packA(args, row, rows, k, blockSteps);
    let panel = scratch + B_AT;
    let panelBytes = <usize>(blockSteps * PANEL * 4);
    if (bKind == B_PANELS) {
      panelBytes = <usize>(steps * PANEL * 4);
      panel = <usize>load<u32>(args, 12) + <usize>(column / PANEL) * panelBytes + <usize>(k * PANEL * 4);
    } else packB(args, column, columns, k, blockSteps);
    for (let c = 0; c < columns; c += PANEL, panel += panelBytes) {
      multiplyPanel(args, panel, row, rows, column + c, min(PANEL, columns - c), blockSteps, k == 0);
    }
  }
}

function packA(args: usize, row: i32, rows: i32, k: i32, steps: i32): void {
  const rowBytes = <usize>load<u32>(args, 4) << 2;
  const stepBytes = <usize>load<u32>(args, 8) << 2;
  const source = <usize>load<u32>(args) + <usize>row * rowBytes + <usize>k * stepBytes;
  if (stepBytes == 4) packRowsA(source, rowBytes, rows, steps, scratch + A_AT);
  else packColumnsA(source, stepBytes, rows, steps, scratch + A_AT);
}

function packB(args: usize, column: i32, columns: i32, k: i32, steps: i32): void {
  const b = <usize>load<u32>(args, 12);
  const strideBytes = <usize>load<u32>(args, 20) << 2;
  const isRowPerColumn = load<i32>(args, 16) == B_ROW_PER_COLUMN;
  const source = b + <usize>(isRowPerColumn ? column : k) * strideBytes + (<usize>(isRowPerColumn ? k : column) << 2);
  if (isRowPerColumn) packPanelsAlong(source, strideBytes, columns, steps, scratch + B_AT);
  else packPanelsAcross(source, strideBytes, columns, steps, scratch + B_AT);
}

/** Adds one block of k to `rows` rows of one panel's columns of C. */
function multiplyPanel(args: usize, panel: usize, row: i32, rows: i32, column: i32, columns: i32, steps: i32, isFirst: bool): void {
  const cBytes = <usize>load<u32>(args, 28) << 2;
  const isFromBias = isFirst && load<i32>(args, 36) == 0;
  let c = <usize>load<u32>(args, 24) + <usize>row * cBytes + (<usize>column << 2);
  if (isFromBias) loadBias(<usize>load<u32>(args, 32), column, columns);
  const tileBytes = <usize>(steps * TILE_ROWS * 4);
  let a = scratch + A_AT;
  const sums = scratch + TILE_AT;
  for (let r = 0; r < rows; r += TILE_ROWS, a += tileBytes) {
    const tileRows = min(TILE_ROWS, rows - r);
    if (columns == PANEL) {
      multiplyTile(a, panel, steps, sums);
      for (let i = 0; i < tileRows; i++, c += cBytes) addRow(isFromBias ? scratch + BIAS_AT : c, sums + <usize>(i * PANEL * 4), c);
    } else {
      multiplyTile(a, panel, steps, sums);
      for (let i = 0; i < tileRows; i++, c += cBytes) addPart(isFromBias ? scratch + BIAS_AT : c, sums + <usize>(i * PANEL * 4), c, columns);
    }
  }
}

function loadBias(bias: usize, column: i32, columns: i32): void {
  for (let i = 0; i < PANEL; i++)
    store<f32>(scratch + BIAS_AT + (<usize>i << 2), bias != 0 && i < columns ? load<f32>(bias + (<usize>(column + i) << 2)) : 0);
}

/** to = from + sums, a panel's eight floats. */
// @ts-ignore: decorator
@inline
function addRow(from: usize, sums: usize, to: usize): void {
  v128.store(to, f32x4.add(v128.load(from), v128.load(sums)));
  v128.store(to, f32x4.add(v128.load(from, 16), v128.load(sums, 16)), 16);
}

/** to = from + sums, `columns` floats. */
function addPart(from: usize, sums: usize, to: usize, columns: i32): void {
  for (let i: usize = 0; i < <usize>(columns << 2); i += 4) store<f32>(to + i, load<f32>(from + i) + load<f32>(sums + i));
}

/**
 * sums[6][8] = sum over k of a[k][0..5] b[k][0..7]. The form matters: written out, k by one step, the sums stored
 * plainly. V8 otherwise moves the loads to the top of the loop and runs out of registers (measured: 53 GFLOP/s so, 39
 * by two steps of k, 25 with C added in here).
 */
function multiplyTile(a: usize, b: usize, steps: i32, sums: usize): void {
  let c00 = f32x4.splat(0), c01 = f32x4.splat(0);
  let c10 = f32x4.splat(0), c11 = f32x4.splat(0);
  let c20 = f32x4.splat(0), c21 = f32x4.splat(0);
  let c30 = f32x4.splat(0), c31 = f32x4.splat(0);
  let c40 = f32x4.splat(0), c41 = f32x4.splat(0);
  let c50 = f32x4.splat(0), c51 = f32x4.splat(0);
  for (let k = 0; k < steps; k++) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const a0 = v128.load32_splat(a);
    c00 = mulAdd(a0, b0, c00);
    c01 = mulAdd(a0, b1, c01);
    const a1 = v128.load32_splat(a, 4);
    c10 = mulAdd(a1, b0, c10);
    c11 = mulAdd(a1, b1, c11);
    const a2 = v128.load32_splat(a, 8);
    c20 = mulAdd(a2, b0, c20);
    c21 = mulAdd(a2, b1, c21);
    const a3 = v128.load32_splat(a, 12);
    c30 = mulAdd(a3, b0, c30);
    c31 = mulAdd(a3, b1, c31);
    const a4 = v128.load32_splat(a, 16);
    c40 = mulAdd(a4, b0, c40);
    c41 = mulAdd(a4, b1, c41);
    const a5 = v128.load32_splat(a, 20);
    c50 = mulAdd(a5, b0, c50);
    c51 = mulAdd(a5, b1, c51);
    a += TILE_ROWS * 4;
    b += PANEL * 4;
  }
  v128.store(sums, c00, 0);
  v128.store(sums, c01, 16);
  v128.store(sums, c10, 32);
  v128.store(sums, c11, 48);
  v128.store(sums, c20, 64);
  v128.store(sums, c21, 80);
  v128.store(sums, c30, 96);
  v128.store(sums, c31, 112);
  v128.store(sums, c40, 128);
  v128.store(sums, c41, 144);
  v128.store(sums, c50, 160);
  v128.store(sums, c51, 176);
}
