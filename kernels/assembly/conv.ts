// causalConv1d, forward: y[t] = silu(bias + sum of weight[k] x[t - width + 1 + k]), by channels in lanes.
// Source: Dao-AILab/causal-conv1d. All widths run as four taps; the missing ones have weight zero and read a row of zeros.
import { rowOf } from "./add";
import { fma } from "./math";
import { nextItem, scratch } from "./runtime";
import { siluRow } from "./scan-tile";

/** Rows an item of the forward pass: what its copy of the weights is used for. */
const ROWS: i32 = 32;
export const TAPS: i32 = 4;

// args of both passes, as byte offsets: x 0 (address, row stride), weight 8 (address, row stride), bias 16, initialState 20
// (address, row stride), documentStarts 28 (address, row stride), batch 36, length 40, channels 44, width 48, silu 52.

// @ts-ignore: decorator
@inline
export function load4(at: usize, lanes: i32): v128 {
  return lanes == 4 ? v128.load(at) : v128.load32_zero(at);
}

// @ts-ignore: decorator
@inline
export function store4(at: usize, value: v128, lanes: i32): void {
  if (lanes == 4) v128.store(at, value);
  else v128.store32_lane(at, value, 0);
}

/** How many inputs may be seen at time t, itself included, before a document's start or the beginning of all; at most 4. */
export function seenAt(args: usize, b: i32, t: i32): i32 {
  const starts = <usize>load<u32>(args, 28);
  const reach = load<u32>(args, 20) ? TAPS : min(TAPS, t + 1);
  if (!starts) return reach;
  const row = starts + ((<usize>b * load<u32>(args, 32)) << 2);
  for (let seen = 1; seen < reach; seen++) {
    if (t - seen + 1 < 0) return reach;
    if (load<i32>(row + (<usize>(t - seen + 1) << 2))) return seen;
  }
  return reach;
}

/** Address of the input of time s, which may lie in the state before the sequence. */
export function inputRow(args: usize, b: i32, s: i32): usize {
  const length = load<i32>(args, 40);
  if (s >= 0) return rowOf(args, 0, b * length + s);
  const width = load<i32>(args, 48);
  return rowOf(args, 20, b * (width - 1) + width - 1 + s);
}

/** Writes weight[:, k] as rows [tap][channels] (tap 3 is the current token), and the bias as a fifth, for channels from..to. */
export function transposeWeights(args: usize, target: usize, from: i32, to: i32): void {
  const width = load<i32>(args, 48);
  const count = to - from;
  const bias = <usize>load<u32>(args, 16);
  memory.fill(target, 0, <usize>(TAPS + 1) * count * 4);
  let first = from;
  if (width == TAPS) for (; first + 4 <= to; first += 4) transposeFour(args, first, target + (<usize>(first - from) << 2), <usize>count << 2);
  if (width == TAPS && bias) memory.copy(target + (<usize>(TAPS * count) << 2), bias + (<usize>from << 2), <usize>(first - from) << 2);
  for (let channel = first; channel < to; channel++) {
    const row = rowOf(args, 8, channel);
    const at = target + (<usize>(channel - from) << 2);
    for (let k = 0; k < width; k++) store<f32>(at + ((<usize>(TAPS - width + k) * count) << 2), load<f32>(row + (<usize>k << 2)));
    if (bias) store<f32>(at + ((<usize>TAPS * count) << 2), load<f32>(bias + (<usize>channel << 2)));
  }
}

/** The weights of four channels and four taps: a 4 by 4 transpose. */
function transposeFour(args: usize, channel: i32, target: usize, stride: usize): void {
  const a = v128.load(rowOf(args, 8, channel)), b = v128.load(rowOf(args, 8, channel + 1));
  const c = v128.load(rowOf(args, 8, channel + 2)), d = v128.load(rowOf(args, 8, channel + 3));
  const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
  const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7), CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(target, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(target + stride, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
  v128.store(target + 2 * stride, v128.shuffle<f32>(AB, CD, 0, 1, 4, 5));
  v128.store(target + 3 * stride, v128.shuffle<f32>(AB, CD, 2, 3, 6, 7));
}

/** args: the common ones, then y 56 (address, row stride). Items: blocks of rows of one sequence. */
export function convForward(args: usize): void {
  const batch = load<i32>(args, 36);
  const length = load<i32>(args, 40);
  const channels = load<i32>(args, 44);
  const width = load<i32>(args, 48);
  const blocks = (length + ROWS - 1) / ROWS;
  const weights = scratch;
  const zeros = weights + ((<usize>(TAPS + 1) * channels) << 2);
  let isReady = false;
  for (let item = nextItem(); item < batch * blocks; item = nextItem()) {
    if (!isReady) {
      transposeWeights(args, weights, 0, channels);
      memory.fill(zeros, 0, <usize>channels << 2);
      isReady = true;
    }
    const b = item / blocks;
    const start = (item % blocks) * ROWS;
    for (let t = start; t < min(length, start + ROWS); t++) {
      const seen = min(seenAt(args, b, t), width);
      const x0 = seen > 3 ? inputRow(args, b, t - 3) : zeros;
      const x1 = seen > 2 ? inputRow(args, b, t - 2) : zeros;
      const x2 = seen > 1 ? inputRow(args, b, t - 1) : zeros;
      const y = rowOf(args, 56, b * length + t);
      convRow(weights, x0, x1, x2, inputRow(args, b, t), y, channels);
      if (load<i32>(args, 52)) siluRow(y, channels);
    }
  }
}

function convRow(weights: usize, x0: usize, x1: usize, x2: usize, x3: usize, y: usize, channels: i32): void {
  const stride = <usize>channels << 2;
  const whole = y + (<usize>(channels & ~3) << 2);
  const end = y + stride;
  for (; y < whole; y += 16) {
    convLanes(4, weights, stride, x0, x1, x2, x3, y);
    weights += 16;
    x0 += 16;
    x1 += 16;
    x2 += 16;
    x3 += 16;
  }
  for (; y < end; y += 4) {
    convLanes(1, weights, stride, x0, x1, x2, x3, y);
    weights += 4;
    x0 += 4;
    x1 += 4;
    x2 += 4;
    x3 += 4;
  }
}

// @ts-ignore: decorator
@inline
function convLanes(lanes: i32, weights: usize, stride: usize, x0: usize, x1: usize, x2: usize, x3: usize, y: usize): void {
  let sum = load4(weights + 4 * stride, lanes);
  sum = fma(load4(weights, lanes), load4(x0, lanes), sum);
  sum = fma(load4(weights + stride, lanes), load4(x1, lanes), sum);
  sum = fma(load4(weights + 2 * stride, lanes), load4(x2, lanes), sum);
  sum = fma(load4(weights + 3 * stride, lanes), load4(x3, lanes), sum);
  store4(y, sum, lanes);
}

/**
 * args: the common ones, then finalState 56 (address, row stride). The last width - 1 inputs, zero where a later document
 * began. Rows go oldest first, so that a state may be shifted in place. One thread.
 */
export function convFinalState(args: usize): void {
  const batch = load<i32>(args, 36);
  const length = load<i32>(args, 40);
  const bytes = <usize>load<i32>(args, 44) << 2;
  const kept = load<i32>(args, 48) - 1;
  for (let b = 0; b < batch; b++) {
    const seen = seenAt(args, b, length - 1);
    for (let i = 0; i < kept; i++) {
      const target = rowOf(args, 56, b * kept + i);
      if (kept - i > seen) memory.fill(target, 0, bytes);
      else memory.copy(target, inputRow(args, b, length - kept + i), bytes);
    }
  }
}
