// The gradients of causalAttention: probabilities are computed again, once by tiles of queries for theirs, once by tiles of
// keys for those of keys and values, so that no two threads add to one place.
import { addScaledHead, addWeightedRows, arg, bringRows, bringTurned, dotHead, headOf, multiplyTiles, rowTile, scoreTile, TILE, vectorTile, widthOf } from "./attention-tiles";
import { exp } from "./math";
import { nextItem } from "./runtime";

/**
 * args of both: q, qStride, k, kStride, v, vStride, y, yStride, gradY, gradYStride, gradQ (or gradK), stride, (gradV,
 * stride,) logSum, firstVisible (0: none), batch, length, nHeads, group, headDim, scale: gradV and all behind it lie at the
 * same places in both, gradV is not used by the first.
 */
const GRAD: i32 = 10;
const GRAD_V: i32 = 12;
const LOG_SUM: i32 = 14;
const FIRST_VISIBLE: i32 = 15;
const BATCH: i32 = 16;
const LENGTH: i32 = 17;
const HEADS: i32 = 18;
const GROUP: i32 = 19;
const HEAD_DIM: i32 = 20;
const SCALE: usize = 84;

/** gradQ += scale · sum over keys of ds k. */
export function attentionGradQ(args: usize): void {
  const heads = <i32>arg(args, BATCH) * <i32>arg(args, HEADS);
  const tiles = (<i32>arg(args, LENGTH) + TILE - 1) / TILE;
  for (let item = nextItem(); item < heads * tiles; item = nextItem()) {
    const rest = item % heads;
    gradOfQueries(args, rest / <i32>arg(args, HEADS), rest % <i32>arg(args, HEADS), (tiles - 1 - item / heads) * TILE);
  }
}

function gradOfQueries(args: usize, sequence: i32, head: i32, first: i32): void {
  const length = <i32>arg(args, LENGTH);
  const headDim = <i32>arg(args, HEAD_DIM);
  const scale = load<f32>(args, SCALE);
  const keyHead = head / <i32>arg(args, GROUP);
  const width = widthOf(headDim);
  const count = min(TILE, length - first);
  const row = sequence * length + first;
  const queries = rowTile(0);
  const grads = rowTile(1);
  const turned = rowTile(2);
  const sums = rowTile(3);
  const weights = scoreTile(0);
  const slopes = scoreTile(1);
  bringRows(queries, headOf(args, 0, row, head, headDim), arg(args, 1), count, headDim, scale);
  bringRows(grads, headOf(args, 8, row, head, headDim), arg(args, 9), count, headDim, 1);
  bringVectors(args, row, head, count);
  memory.fill(sums, 0, <usize>(((count + 3) & ~3) * width) << 2);
  const end = first + count;
  for (let key = 0; key < end; key += TILE) {
    const keys = min(TILE, end - key);
    const columns = (keys + 7) & ~7;
    const k = headOf(args, 2, sequence * length + key, keyHead, headDim);
    bringTurned(turned, k, arg(args, 3), keys, headDim);
    multiplyTiles(queries, width, turned, TILE, weights, TILE, count, columns, headDim, false);
    bringTurned(turned, headOf(args, 4, sequence * length + key, keyHead, headDim), arg(args, 5), keys, headDim);
    multiplyTiles(grads, width, turned, TILE, slopes, TILE, count, columns, headDim, false);
    for (let i = 0; i < count; i++) {
      const at = <usize>(i * TILE) << 2;
      slopesOfQuery(weights + at, slopes + at, i, columns);
      const least = min(columns, firstKey(args, row + i) - key);
      if (least > 0) memory.fill(weights + at, 0, <usize>least << 2);
      const seen = max(0, first + i - key + 1);
      if (seen < columns) memory.fill(weights + at + (<usize>seen << 2), 0, <usize>(columns - seen) << 2);
    }
    addWeightedRows(sums, weights, k, arg(args, 3), count, keys, headDim, rowTile(4));
  }
  for (let i = 0; i < count; i++)
    addScaledHead(headOf(args, GRAD, row + i, head, headDim), sums + (<usize>(i * width) << 2), headDim, scale);
}

// @ts-ignore: decorator
@inline
function firstKey(args: usize, row: i32): i32 {
  const firstVisible = arg(args, FIRST_VISIBLE);
  return firstVisible ? load<i32>(firstVisible + (<usize>row << 2)) : 0;
}

/** Of `count` queries: vectors 0, the logarithm of the softmax's denominator; 1, the sum of p dp = grad.y · y. */
function bringVectors(args: usize, row: i32, head: i32, count: i32): void {
  const headDim = <i32>arg(args, HEAD_DIM);
  for (let i = 0; i < count; i++) {
    const at = <usize>i << 2;
    const logSum = arg(args, LOG_SUM) + (<usize>((row + i) * <i32>arg(args, HEADS) + head) << 2);
    store<f32>(vectorTile(0) + at, load<f32>(logSum));
    const mean = dotHead(headOf(args, 8, row + i, head, headDim), headOf(args, 6, row + i, head, headDim), headDim);
    store<f32>(vectorTile(1) + at, mean);
  }
}

/** ds of a query: its scores in `weights` become e^(score - logSum) (dp - mean). */
function slopesOfQuery(weights: usize, slopes: usize, query: i32, columns: i32): void {
  const logSum = v128.load32_splat(vectorTile(0) + (<usize>query << 2));
  const mean = v128.load32_splat(vectorTile(1) + (<usize>query << 2));
  for (let i = 0; i < columns; i += 4) {
    const at = <usize>i << 2;
    const p = exp(f32x4.sub(v128.load(weights + at), logSum));
    v128.store(weights + at, f32x4.mul(p, f32x4.sub(v128.load(slopes + at), mean)));
  }
}

/** gradK += scale · sum over queries of ds q; gradV += sum over queries of p gradY. Either may be 0: not wanted. */
export function attentionGradKv(args: usize): void {
  const keyHeads = <i32>arg(args, HEADS) / <i32>arg(args, GROUP);
  const heads = <i32>arg(args, BATCH) * keyHeads;
  const tiles = (<i32>arg(args, LENGTH) + TILE - 1) / TILE;
  for (let item = nextItem(); item < heads * tiles; item = nextItem()) {
    const rest = item % heads;
    gradOfKeys(args, rest / keyHeads, rest % keyHeads, (item / heads) * TILE);
  }
}

function gradOfKeys(args: usize, sequence: i32, keyHead: i32, first: i32): void {
  const length = <i32>arg(args, LENGTH);
  const group = <i32>arg(args, GROUP);
  const headDim = <i32>arg(args, HEAD_DIM);
  const width = widthOf(headDim);
  const count = min(TILE, length - first);
  const row = sequence * length + first;
  const bytes = <usize>(((count + 3) & ~3) * width) << 2;
  bringRows(rowTile(0), headOf(args, 2, row, keyHead, headDim), arg(args, 3), count, headDim, load<f32>(args, SCALE));
  bringRows(rowTile(1), headOf(args, 4, row, keyHead, headDim), arg(args, 5), count, headDim, 1);
  memory.fill(rowTile(2), 0, bytes);
  memory.fill(rowTile(3), 0, bytes);
  for (let head = keyHead * group; head < (keyHead + 1) * group; head++)
    for (let query = first; query < length; query += TILE) addQueries(args, sequence, head, first, count, query);
  for (let i = 0; i < count; i++) {
    const at = <usize>(i * width) << 2;
    if (arg(args, GRAD))
      addScaledHead(headOf(args, GRAD, row + i, keyHead, headDim), rowTile(2) + at, headDim, load<f32>(args, SCALE));
    if (arg(args, GRAD_V)) addScaledHead(headOf(args, GRAD_V, row + i, keyHead, headDim), rowTile(3) + at, headDim, 1);
  }
}

/** What the queries from `query` on add to the gradients of a tile of keys: rows 2 of keys, rows 3 of values. */
function addQueries(args: usize, sequence: i32, head: i32, first: i32, count: i32, query: i32): void {
  const length = <i32>arg(args, LENGTH);
  const headDim = <i32>arg(args, HEAD_DIM);
  const width = widthOf(headDim);
  const queries = min(TILE, length - query);
  const columns = (queries + 7) & ~7;
  const row = sequence * length + query;
  const q = headOf(args, 0, row, head, headDim);
  const gradY = headOf(args, 8, row, head, headDim);
  const turned = rowTile(4);
  const weights = scoreTile(0);
  const slopes = scoreTile(1);
  bringVectors(args, row, head, queries);
  bringTurned(turned, q, arg(args, 1), queries, headDim);
  multiplyTiles(rowTile(0), width, turned, TILE, weights, TILE, count, columns, headDim, false);
  for (let i = 0; i < count; i++) weightsOfKey(args, weights + (<usize>(i * TILE) << 2), first + i, query, row, queries);
  if (arg(args, GRAD)) {
    bringTurned(turned, gradY, arg(args, 9), queries, headDim);
    multiplyTiles(rowTile(1), width, turned, TILE, slopes, TILE, count, columns, headDim, false);
    for (let i = 0; i < count; i++) slopesOfKey(weights + (<usize>(i * TILE) << 2), slopes + (<usize>(i * TILE) << 2), queries);
    addWeightedRows(rowTile(2), slopes, q, arg(args, 1), count, queries, headDim, turned);
  }
  if (arg(args, GRAD_V)) addWeightedRows(rowTile(3), weights, gradY, arg(args, 9), count, queries, headDim, turned);
}

/** Probabilities of a key, a query a column; 0 where the query does not see it. */
function weightsOfKey(args: usize, weights: usize, key: i32, query: i32, row: i32, queries: i32): void {
  for (let i = 0; i < queries; i += 4) {
    const at = <usize>i << 2;
    v128.store(weights + at, exp(f32x4.sub(v128.load(weights + at), v128.load(vectorTile(0) + at))));
  }
  if (key > query) memory.fill(weights, 0, <usize>min(queries, key - query) << 2);
  if (!arg(args, FIRST_VISIBLE)) return;
  for (let i = 0; i < queries; i++) if (firstKey(args, row + i) > key) store<f32>(weights + (<usize>i << 2), 0);
}

/** ds of a key: its slopes become p (dp - mean). */
function slopesOfKey(weights: usize, slopes: usize, queries: i32): void {
  for (let i = 0; i < queries; i += 4) {
    const at = <usize>i << 2;
    const slope = f32x4.sub(v128.load(slopes + at), v128.load(vectorTile(1) + at));
    v128.store(slopes + at, f32x4.mul(v128.load(weights + at), slope));
  }
}
