// causalAttention, forward: a tile of queries of one head goes through the tiles of keys before it, with a running softmax.
// The same kernel reads a cache. See src/ops/causal-attention/README.md.
import { addWeightedRows, arg, bringRows, bringTurned, headOf, multiplyTiles, rowTile, scoreTile, TILE, vectorTile, widthOf } from "./attention-tiles";
import { exp, expScalar, sum4 } from "./math";
import { nextItem } from "./runtime";

/**
 * args: q, qStride, k, kStride, v, vStride, y, yStride, logSum (0: not wanted), firstVisible (0: none), lengths (keys before
 * the first query; 0: none), batch, length, nHeads, group, headDim, keyRows (of a sequence), scale.
 */
export function attention(args: usize): void {
  const batch = <i32>arg(args, 11);
  const length = <i32>arg(args, 12);
  const nHeads = <i32>arg(args, 13);
  const tiles = (length + TILE - 1) / TILE;
  const items = batch * nHeads * tiles;
  for (let item = nextItem(); item < items; item = nextItem()) {
    // The tiles with the most keys come first.
    const tile = tiles - 1 - item / (batch * nHeads);
    const rest = item % (batch * nHeads);
    attendTile(args, rest / nHeads, rest % nHeads, tile * TILE);
  }
}

function attendTile(args: usize, sequence: i32, head: i32, first: i32): void {
  const lengths = arg(args, 10);
  const length = <i32>arg(args, 12);
  const keyHead = head / <i32>arg(args, 14);
  const headDim = <i32>arg(args, 15);
  const keyRows = <i32>arg(args, 16);
  const width = widthOf(headDim);
  const count = min(TILE, length - first);
  const before = lengths ? load<i32>(lengths + (<usize>sequence << 2)) : 0;
  const end = min(keyRows, before + first + count);
  const queries = rowTile(0);
  const turned = rowTile(1);
  const sums = rowTile(2);
  const scores = scoreTile(0);
  bringRows(queries, headOf(args, 0, sequence * length + first, head, headDim), arg(args, 1), count, headDim, load<f32>(args, 68));
  memory.fill(sums, 0, <usize>(((count + 3) & ~3) * width) << 2);
  for (let row = 0; row < count; row++) {
    store<f32>(vectorTile(0) + (<usize>row << 2), -Infinity);
    store<f32>(vectorTile(1) + (<usize>row << 2), 0);
  }
  for (let key = 0; key < end; key += TILE) {
    const keys = min(TILE, end - key);
    const columns = (keys + 7) & ~7;
    bringTurned(turned, headOf(args, 2, sequence * keyRows + key, keyHead, headDim), arg(args, 3), keys, headDim);
    multiplyTiles(queries, width, turned, TILE, scores, TILE, count, columns, headDim, false);
    for (let row = 0; row < count; row++) {
      const least = firstKey(args, sequence * length + first + row) - key;
      weighRow(scores + (<usize>(row * TILE) << 2), row, max(0, least), min(keys, before + first + row - key + 1), columns, width);
    }
    addWeightedRows(sums, scores, headOf(args, 4, sequence * keyRows + key, keyHead, headDim), arg(args, 5), count, keys, headDim, rowTile(3));
  }
  for (let row = 0; row < count; row++) writeRow(args, sequence * length + first + row, head, row, before + first + row < keyRows);
}

/** The first key that a query may see, within its sequence. */
// @ts-ignore: decorator
@inline
function firstKey(args: usize, row: i32): i32 {
  const firstVisible = arg(args, 9);
  return firstVisible ? load<i32>(firstVisible + (<usize>row << 2)) : 0;
}

/** Scores of a query become weights: those of keys [least, end), the others 0; what was summed before shrinks as it must. */
function weighRow(scores: usize, row: i32, least: i32, end: i32, columns: i32, width: i32): void {
  if (end <= least) {
    memory.fill(scores, 0, <usize>columns << 2);
    return;
  }
  for (let i = 0; i < least; i++) store<f32>(scores + (<usize>i << 2), -Infinity);
  for (let i = end; i < columns; i++) store<f32>(scores + (<usize>i << 2), -Infinity);
  const mostAt = vectorTile(0) + (<usize>row << 2);
  const totalAt = vectorTile(1) + (<usize>row << 2);
  const before = load<f32>(mostAt);
  const most = max<f32>(before, largest(scores, columns));
  const mosts = f32x4.splat(most);
  let total = f32x4.splat(0);
  for (let i = 0; i < columns; i += 4) {
    const at = scores + (<usize>i << 2);
    const weight = exp(f32x4.sub(v128.load(at), mosts));
    v128.store(at, weight);
    total = f32x4.add(total, weight);
  }
  // Without a key before, this is e^-infinity, 0.
  const shrink = most == before ? <f32>1 : expScalar(before - most);
  store<f32>(mostAt, most);
  store<f32>(totalAt, load<f32>(totalAt) * shrink + sum4(total));
  if (shrink == 1) return;
  const sums = rowTile(2) + (<usize>(row * width) << 2);
  const factors = f32x4.splat(shrink);
  for (let i = 0; i < width; i += 4) {
    const at = sums + (<usize>i << 2);
    v128.store(at, f32x4.mul(v128.load(at), factors));
  }
}

function largest(values: usize, columns: i32): f32 {
  let most = v128.load(values);
  for (let i = 4; i < columns; i += 4) most = f32x4.max(most, v128.load(values + (<usize>i << 2)));
  return max<f32>(
    max<f32>(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max<f32>(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  );
}

function writeRow(args: usize, at: i32, head: i32, row: i32, isKept: bool): void {
  const headDim = <i32>arg(args, 15);
  const logSum = arg(args, 8);
  const sums = rowTile(2) + (<usize>(row * widthOf(headDim)) << 2);
  const y = headOf(args, 6, at, head, headDim);
  const total = load<f32>(vectorTile(1) + (<usize>row << 2));
  const factor = isKept ? <f32>1 / total : <f32>NaN;
  for (let i = 0; i < headDim; i++) store<f32>(y + (<usize>i << 2), load<f32>(sums + (<usize>i << 2)) * factor);
  if (logSum) {
    const value = load<f32>(vectorTile(0) + (<usize>row << 2)) + Mathf.log(total);
    store<f32>(logSum + (<usize>(at * <i32>arg(args, 13) + head) << 2), value);
  }
}
