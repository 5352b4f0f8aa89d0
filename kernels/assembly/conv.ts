// causalConv1d: y[t] = silu(bias + sum of weight[k] x[t - width + 1 + k]), by channels in lanes, forward and backward.
// Source: Dao-AILab/causal-conv1d. All widths run as four taps; the missing ones have weight zero and read a row of zeros.
import { rowOf } from "./add";
import { fma, sigmoid, silu } from "./math";
import { nextItem, scratch } from "./runtime";

/** Rows an item of the forward pass: what its copy of the weights is used for. */
const ROWS: i32 = 32;
/** Channels an item of the backward pass: a cache line. */
const LINE: i32 = 16;
const TAPS: i32 = 4;

// args of both passes, as byte offsets: x 0 (address, row stride), weight 8 (address, row stride), bias 16, initialState 20
// (address, row stride), documentStarts 28 (address, row stride), batch 36, length 40, channels 44, width 48, silu 52.

// @ts-ignore: decorator
@inline
function load4(at: usize, lanes: i32): v128 {
  return lanes == 4 ? v128.load(at) : v128.load32_zero(at);
}

// @ts-ignore: decorator
@inline
function store4(at: usize, value: v128, lanes: i32): void {
  if (lanes == 4) v128.store(at, value);
  else v128.store32_lane(at, value, 0);
}

/** How many inputs may be seen at time t, itself included, before a document's start or the beginning of all; at most 4. */
function seenAt(args: usize, b: i32, t: i32): i32 {
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
function inputRow(args: usize, b: i32, s: i32): usize {
  const length = load<i32>(args, 40);
  if (s >= 0) return rowOf(args, 0, b * length + s);
  const width = load<i32>(args, 48);
  return rowOf(args, 20, b * (width - 1) + width - 1 + s);
}

/** Writes weight[:, k] as rows [tap][channels] (tap 3 is the current token), and the bias as a fifth, for channels from..to. */
function transposeWeights(args: usize, target: usize, from: i32, to: i32): void {
  const width = load<i32>(args, 48);
  const count = to - from;
  const bias = <usize>load<u32>(args, 16);
  memory.fill(target, 0, <usize>(TAPS + 1) * count * 4);
  for (let channel = from; channel < to; channel++) {
    const row = rowOf(args, 8, channel);
    const at = target + (<usize>(channel - from) << 2);
    for (let k = 0; k < width; k++) store<f32>(at + ((<usize>(TAPS - width + k) * count) << 2), load<f32>(row + (<usize>k << 2)));
    if (bias) store<f32>(at + ((<usize>TAPS * count) << 2), load<f32>(bias + (<usize>channel << 2)));
  }
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
      convRow(weights, x0, x1, x2, inputRow(args, b, t), rowOf(args, 56, b * length + t), channels, load<i32>(args, 52) != 0);
    }
  }
}

function convRow(weights: usize, x0: usize, x1: usize, x2: usize, x3: usize, y: usize, channels: i32, hasSilu: bool): void {
  const stride = <usize>channels << 2;
  let channel = 0;
  while (channel < channels) {
    const lanes = channel + 4 <= channels ? 4 : 1;
    const at = <usize>channel << 2;
    const w = weights + at;
    let sum = load4(w + 4 * stride, lanes);
    sum = fma(load4(w, lanes), load4(x0 + at, lanes), sum);
    sum = fma(load4(w + stride, lanes), load4(x1 + at, lanes), sum);
    sum = fma(load4(w + 2 * stride, lanes), load4(x2 + at, lanes), sum);
    sum = fma(load4(w + 3 * stride, lanes), load4(x3 + at, lanes), sum);
    store4(y + at, hasSilu ? silu(sum) : sum, lanes);
    channel += lanes;
  }
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

/**
 * args: the common ones, then gradY 56, gradFinalState 64, gradX 72, gradInitialState 80 (address, row stride; address 0:
 * none), gradWeight 88 (address, row stride), gradBias 96 (address). Items: 16 channels, over all sequences in order.
 */
export function convBackward(args: usize): void {
  const batch = load<i32>(args, 36);
  const channels = load<i32>(args, 44);
  const items = (channels + LINE - 1) / LINE;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const from = item * LINE;
    const to = min(channels, from + LINE);
    transposeWeights(args, scratch, from, to);
    let channel = from;
    while (channel < to) {
      const lanes = channel + 4 <= to ? 4 : 1;
      const sums = scratch + 1024;
      memory.fill(sums, 0, (TAPS + 1) * 16);
      for (let b = 0; b < batch; b++) backwardSequence(args, b, channel, lanes, scratch + (<usize>(channel - from) << 2), <usize>(to - from) << 2, sums);
      addWeightGradients(args, channel, lanes, sums);
      channel += lanes;
    }
  }
}

/** One sequence, four (or one) channels: gradX and gradInitialState into memory, gradWeight and gradBias added to `sums`. */
function backwardSequence(args: usize, b: i32, channel: i32, lanes: i32, weights: usize, weightStride: usize, sums: usize): void {
  const length = load<i32>(args, 40);
  const width = load<i32>(args, 48);
  const hasSilu = load<i32>(args, 52) != 0;
  const hasGradY = load<u32>(args, 56) != 0;
  const at = <usize>channel << 2;
  const zero = f32x4.splat(0);
  for (let t = 0; t < length; t++) {
    if (!hasGradY) break;
    const seen = min(seenAt(args, b, t), width);
    let pre = load4(weights + TAPS * weightStride, lanes);
    for (let age = seen - 1; age >= 0; age--)
      pre = fma(load4(weights + <usize>(3 - age) * weightStride, lanes), load4(inputRow(args, b, t - age) + at, lanes), pre);
    let gradPre = load4(rowOf(args, 56, b * length + t) + at, lanes);
    if (hasSilu) {
      const s = sigmoid(pre);
      const slope = f32x4.mul(s, fma(pre, f32x4.sub(f32x4.splat(1), s), f32x4.splat(1)));
      gradPre = f32x4.mul(gradPre, slope);
    }
    if (lanes == 1) gradPre = v128.shuffle<f32>(gradPre, zero, 0, 4, 4, 4);
    v128.store(sums + TAPS * 16, f32x4.add(v128.load(sums + TAPS * 16), gradPre));
    for (let age = 0; age < seen; age++) {
      const sum = sums + (<usize>(3 - age) << 4);
      v128.store(sum, fma(gradPre, load4(inputRow(args, b, t - age) + at, lanes), v128.load(sum)));
      addToInput(args, b, t - age, at, lanes, f32x4.mul(gradPre, load4(weights + <usize>(3 - age) * weightStride, lanes)));
    }
  }
  if (!load<u32>(args, 64)) return;
  const kept = width - 1;
  const seen = seenAt(args, b, length - 1);
  for (let i = max(0, kept - seen); i < kept; i++)
    addToInput(args, b, length - kept + i, at, lanes, load4(rowOf(args, 64, b * kept + i) + at, lanes));
}

/** Adds to the gradient of the input of time s: in gradX, or in gradInitialState before the sequence. */
function addToInput(args: usize, b: i32, s: i32, at: usize, lanes: i32, value: v128): void {
  const kept = load<i32>(args, 48) - 1;
  let row: usize = 0;
  if (s >= 0) {
    if (load<u32>(args, 72)) row = rowOf(args, 72, b * load<i32>(args, 40) + s);
  } else if (load<u32>(args, 80)) row = rowOf(args, 80, b * kept + kept + s);
  if (row) store4(row + at, f32x4.add(load4(row + at, lanes), value), lanes);
}

function addWeightGradients(args: usize, channel: i32, lanes: i32, sums: usize): void {
  const width = load<i32>(args, 48);
  for (let lane = 0; lane < lanes; lane++) {
    const from = sums + (<usize>lane << 2);
    const gradBias = <usize>load<u32>(args, 96);
    if (gradBias) addAt(gradBias + (<usize>(channel + lane) << 2), load<f32>(from + TAPS * 16));
    if (!load<u32>(args, 88)) continue;
    const row = rowOf(args, 88, channel + lane);
    for (let k = 0; k < width; k++) addAt(row + (<usize>k << 2), load<f32>(from + (<usize>(TAPS - width + k) << 4)));
  }
}

// @ts-ignore: decorator
@inline
function addAt(address: usize, value: f32): void {
  store<f32>(address, load<f32>(address) + value);
}
