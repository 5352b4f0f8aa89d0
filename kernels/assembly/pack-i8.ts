// Quantising a weight [rows, k] to int8, one scale a row (its largest magnitude / 127), in the panels of gemm-i8.ts.
import { PANEL_ROWS, panelBytesI8 } from "./gemm-i8";
import { QUANT_UNIT, paddedSteps } from "./quantize";
import { nextItem } from "./runtime";

/** Below this scale a row counts as zeros: its reciprocal would overflow. */
const SMALLEST: f32 = 1e-36;

/**
 * Packs a piece: rows [firstRow, firstRow + rows) of a weight of `totalRows`. Behind the last row, zeros fill its panel.
 * args: source (the piece, row-major), rows, steps, panels, rowScales, firstRow, totalRows.
 */
export function packI8(args: usize): void {
  const steps = load<i32>(args, 8);
  const firstRow = load<i32>(args, 20);
  const endRow = firstRow + load<i32>(args, 4);
  const totalRows = load<i32>(args, 24);
  const rowBytes = <usize>(steps * 4);
  const endPanel = (endRow + PANEL_ROWS - 1) / PANEL_ROWS;
  for (let panel = firstRow / PANEL_ROWS + nextItem(); panel < endPanel; panel = firstRow / PANEL_ROWS + nextItem()) {
    const target = <usize>load<u32>(args, 12) + <usize>(panel * panelBytesI8(steps));
    for (let r = 0; r < PANEL_ROWS; r++) {
      const row = panel * PANEL_ROWS + r;
      if (row < firstRow || (row >= endRow && row < totalRows)) continue;
      const source = row < totalRows ? <usize>load<u32>(args) + <usize>(row - firstRow) * rowBytes : 0;
      const lane = target + <usize>(r * QUANT_UNIT);
      const scale = source ? packRow(source, steps, lane) : packZeros(steps, lane);
      store<f32>(<usize>load<u32>(args, 16) + (<usize>row << 2), scale);
    }
  }
}

/** Quantises one row into its lane of a panel; returns its scale. NaN gives NaN, infinity infinity. */
function packRow(source: usize, steps: i32, lane: usize): f32 {
  const scale = largestMagnitude(source, steps) / 127;
  const isTiny = scale < SMALLEST;
  const inverse: f32 = isTiny ? 0 : 1 / scale;
  for (let k = 0; k < steps; k += QUANT_UNIT, source += 8, lane += QUANT_UNIT * PANEL_ROWS) {
    const pair = k + 1 < steps ? v128.load64_zero(source) : v128.load32_zero(source);
    const words = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(pair, f32x4.splat(inverse))));
    store<u16>(lane, <u16>((i32x4.extract_lane(words, 0) & 0xff) | (i32x4.extract_lane(words, 1) << 8)));
  }
  return isTiny ? 0 : scale;
}

function packZeros(steps: i32, lane: usize): f32 {
  for (let k = 0; k < steps; k += QUANT_UNIT, lane += QUANT_UNIT * PANEL_ROWS) store<u16>(lane, 0);
  return 0;
}

function largestMagnitude(source: usize, steps: i32): f32 {
  let four = f32x4.splat(0);
  let k = 0;
  for (; k + 4 <= steps; k += 4, source += 16) four = f32x4.max(four, f32x4.abs(v128.load(source)));
  let largest = max(
    max(f32x4.extract_lane(four, 0), f32x4.extract_lane(four, 1)),
    max(f32x4.extract_lane(four, 2), f32x4.extract_lane(four, 3)),
  );
  for (; k < steps; k++, source += 4) largest = max(largest, abs(load<f32>(source)));
  return largest;
}
