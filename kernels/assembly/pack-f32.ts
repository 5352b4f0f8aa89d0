// Packing for gemm-f32.ts: A in tiles [rows / 6][k][6], B in panels [columns / 8][k][8], both padded with zeros.
import { PANEL, TILE_ROWS } from "./gemm-f32";

/** A whose rows are contiguous along k: each tile is a transpose of six rows. */
export function packRowsA(source: usize, rowBytes: usize, rows: i32, steps: i32, target: usize): void {
  for (let row = 0; row < rows; row += TILE_ROWS) {
    const tileRows = min(TILE_ROWS, rows - row);
    if (tileRows < TILE_ROWS) memory.fill(target, 0, <usize>(steps * TILE_ROWS * 4));
    for (let r = 0; r < tileRows; r += 2) {
      const from = source + <usize>(row + r) * rowBytes;
      if (r + 1 < tileRows) interleave2(from, from + rowBytes, steps, target + (<usize>r << 2), TILE_ROWS * 4);
      else interleave1(from, steps, target + (<usize>r << 2), TILE_ROWS * 4);
    }
    target += <usize>(steps * TILE_ROWS * 4);
  }
}

/** A whose columns (rows of memory) are contiguous along its rows: each tile takes six neighbours of every step. */
export function packColumnsA(source: usize, stepBytes: usize, rows: i32, steps: i32, target: usize): void {
  for (let row = 0; row < rows; row += TILE_ROWS) {
    const tileRows = min(TILE_ROWS, rows - row);
    let from = source + (<usize>row << 2);
    for (let k = 0; k < steps; k++, from += stepBytes, target += TILE_ROWS * 4) {
      if (tileRows == TILE_ROWS) {
        v128.store(target, v128.load(from));
        store<u64>(target, load<u64>(from, 16), 16);
      } else {
        for (let r = 0; r < TILE_ROWS; r++) store<f32>(target + (<usize>r << 2), r < tileRows ? load<f32>(from + (<usize>r << 2)) : 0);
      }
    }
  }
}

/** B held as one row of memory a column, contiguous along k (a weight [columns, k]). */
export function packPanelsAlong(source: usize, columnBytes: usize, columns: i32, steps: i32, target: usize): void {
  for (let column = 0; column < columns; column += PANEL) {
    const panelColumns = min(PANEL, columns - column);
    if (panelColumns < PANEL) memory.fill(target, 0, <usize>(steps * PANEL * 4));
    for (let c = 0; c < panelColumns; c += 2) {
      const from = source + <usize>(column + c) * columnBytes;
      if (c + 1 < panelColumns) interleave2(from, from + columnBytes, steps, target + (<usize>c << 2), PANEL * 4);
      else interleave1(from, steps, target + (<usize>c << 2), PANEL * 4);
    }
    target += <usize>(steps * PANEL * 4);
  }
}

/** B held as one row of memory a step of k, contiguous along the columns. */
export function packPanelsAcross(source: usize, stepBytes: usize, columns: i32, steps: i32, target: usize): void {
  for (let column = 0; column < columns; column += PANEL) {
    const panelColumns = min(PANEL, columns - column);
    let from = source + (<usize>column << 2);
    for (let k = 0; k < steps; k++, from += stepBytes, target += PANEL * 4) {
      if (panelColumns == PANEL) {
        v128.store(target, v128.load(from));
        v128.store(target, v128.load(from, 16), 16);
      } else {
        for (let c = 0; c < PANEL; c++) store<f32>(target + (<usize>c << 2), c < panelColumns ? load<f32>(from + (<usize>c << 2)) : 0);
      }
    }
  }
}

/** target[k] = first[k], second[k] (64 bits), `targetBytes` apart. */
function interleave2(first: usize, second: usize, steps: i32, target: usize, targetBytes: usize): void {
  let k = 0;
  for (; k + 4 <= steps; k += 4, first += 16, second += 16, target += 4 * targetBytes) {
    const a = v128.load(first);
    const b = v128.load(second);
    const low = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
    const high = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
    v128.store64_lane(target, low, 0);
    v128.store64_lane(target + targetBytes, low, 1);
    v128.store64_lane(target + 2 * targetBytes, high, 0);
    v128.store64_lane(target + 3 * targetBytes, high, 1);
  }
  for (; k < steps; k++, first += 4, second += 4, target += targetBytes) {
    store<u32>(target, load<u32>(first));
    store<u32>(target, load<u32>(second), 4);
  }
}

function interleave1(from: usize, steps: i32, target: usize, targetBytes: usize): void {
  for (let k = 0; k < steps; k++, from += 4, target += targetBytes) store<u32>(target, load<u32>(from));
}

