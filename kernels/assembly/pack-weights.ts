// Float32 weights into panels, and rows back out of packed weights (for a head that is tied to the embedding).
import { PANEL } from "./gemm-f32";
import { PANEL_ROWS, panelBytesI8 } from "./gemm-i8";
import { packPanelsAlong } from "./pack-f32";
import { QUANT_UNIT } from "./quantize";
import { nextItem } from "./runtime";

/**
 * Packs a piece: rows [firstRow, firstRow + rows) of a weight of `totalRows`. Behind the last row, zeros fill its panel.
 * args: source (the piece, row-major), rows, steps, panels, firstRow, totalRows.
 */
export function packF32(args: usize): void {
  const steps = load<i32>(args, 8);
  const firstRow = load<i32>(args, 16);
  const endRow = firstRow + load<i32>(args, 4);
  const totalRows = load<i32>(args, 20);
  const rowBytes = <usize>(steps * 4);
  const endPanel = (endRow + PANEL - 1) / PANEL;
  for (let panel = firstRow / PANEL + nextItem(); panel < endPanel; panel = firstRow / PANEL + nextItem()) {
    const first = panel * PANEL;
    const target = <usize>load<u32>(args, 12) + <usize>first * rowBytes;
    const source = <usize>load<u32>(args) + <usize>(first - firstRow) * rowBytes;
    if (first >= firstRow && min(first + PANEL, totalRows) <= endRow) {
      packPanelsAlong(source, rowBytes, min(PANEL, totalRows - first), steps, target);
      continue;
    }
    for (let row = max(first, firstRow); row < min(first + PANEL, endRow); row++) {
      const lane = <usize>(row - first);
      packRow(source + lane * rowBytes, steps, target + (lane << 2));
    }
    for (let row = totalRows; endRow == totalRows && row < first + PANEL; row++) packRow(0, steps, target + (<usize>(row - first) << 2));
  }
}

/** One row (source 0: zeros) into its lane of a panel. */
function packRow(source: usize, steps: i32, target: usize): void {
  for (let k = 0; k < steps; k++, target += PANEL * 4) store<f32>(target, source ? load<f32>(source + (<usize>k << 2)) : 0);
}

/**
 * target[i] = row ids[i] of the weight as float32; of NaN when there is no such row.
 * args: ids (i32; 0: i itself), idsStride, idsColumns, panels, rowScales (0: panels are float32), rows, steps, target,
 * targetStride (elements), count.
 */
export function gatherPackedRows(args: usize): void {
  const ids = <usize>load<u32>(args);
  const idsColumns = load<i32>(args, 8);
  const panels = <usize>load<u32>(args, 12);
  const rowScales = <usize>load<u32>(args, 16);
  const steps = load<i32>(args, 24);
  const count = load<i32>(args, 36);
  for (let item = nextItem(); item < count; item = nextItem()) {
    const at = (item / idsColumns) * load<i32>(args, 4) + (item % idsColumns);
    const row = ids ? load<i32>(ids + (<usize>at << 2)) : item;
    const target = <usize>load<u32>(args, 28) + ((<usize>item * load<u32>(args, 32)) << 2);
    if (row < 0 || row >= load<i32>(args, 20)) fillWithNaN(target, steps);
    else if (rowScales) unpackRowI8(panels, rowScales, row, steps, target);
    else unpackRowF32(panels, row, steps, target);
  }
}

function fillWithNaN(target: usize, count: i32): void {
  for (let i = 0; i < count; i++) store<f32>(target + (<usize>i << 2), NaN);
}

function unpackRowF32(panels: usize, row: i32, steps: i32, target: usize): void {
  let from = panels + <usize>(row / PANEL) * <usize>(steps * PANEL * 4) + <usize>((row % PANEL) * 4);
  for (let k = 0; k < steps; k++, from += PANEL * 4, target += 4) store<f32>(target, load<f32>(from));
}

function unpackRowI8(panels: usize, rowScales: usize, row: i32, steps: i32, target: usize): void {
  const scale = load<f32>(rowScales + (<usize>row << 2));
  let from = panels + <usize>((row / PANEL_ROWS) * panelBytesI8(steps)) + <usize>((row % PANEL_ROWS) * QUANT_UNIT);
  for (let k = 0; k < steps; k++, target += 4) {
    store<f32>(target, scale * <f32>load<i8>(from + <usize>(k & 1)));
    if (k & 1) from += QUANT_UNIT * PANEL_ROWS;
  }
}
