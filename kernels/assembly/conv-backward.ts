// causalConv1d, backward: gradPre = gradY silu'(pre), gradX[s] += weight[k] gradPre[s + width - 1 - k], and the sums for
// weight and bias. Source: Dao-AILab/causal-conv1d. Sequences without document starts and with four taps go through tiles of CHUNK steps.
import { rowOf } from "./add";
import { inputRow, load4, seenAt, store4, TAPS, transposeWeights } from "./conv";
import { fma, sigmoid } from "./math";
import { nextItem, scratch } from "./runtime";
import { sigmoidSteps } from "./scan-tile";

/** Channels an item: a cache line. */
const LINE: i32 = 16;
/** Steps at a time, and parts of scratch memory behind the weights and sums: tiles [steps][4 channels]. */
const CHUNK: i32 = 64;
const SUMS: usize = 1024;
const PRE: usize = 2048;
const BEND: usize = PRE + (<usize>CHUNK << 4);
/** gradPre of a chunk, and behind it of the three steps that follow the chunk. */
const GRAD: usize = BEND + (<usize>CHUNK << 4);

/**
 * args: the common ones, then gradY 56, gradFinalState 64, gradX 72, gradInitialState 80 (address, row stride; address 0:
 * none), gradWeight 88 (address, row stride), gradBias 96 (address). Items: 16 channels, over all sequences in order.
 */
export function convBackward(args: usize): void {
  const batch = load<i32>(args, 36);
  const channels = load<i32>(args, 44);
  const items = (channels + LINE - 1) / LINE;
  const isPlain = load<i32>(args, 48) == TAPS && !load<u32>(args, 28) && load<u32>(args, 56) != 0;
  for (let item = nextItem(); item < items; item = nextItem()) {
    const from = item * LINE;
    const to = min(channels, from + LINE);
    transposeWeights(args, scratch, from, to);
    let channel = from;
    while (channel < to) {
      const lanes = channel + 4 <= to ? 4 : 1;
      const sums = scratch + SUMS;
      memory.fill(sums, 0, (TAPS + 1) * 16);
      const weights = scratch + (<usize>(channel - from) << 2);
      const stride = <usize>(to - from) << 2;
      for (let b = 0; b < batch; b++) {
        if (isPlain && lanes == 4) backwardTiles(args, b, channel, weights, stride);
        else backwardSequence(args, b, channel, lanes, weights, stride, sums);
        addFinalState(args, b, channel, lanes);
      }
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
}

/** The gradient of the final state goes to the inputs that it holds. */
function addFinalState(args: usize, b: i32, channel: i32, lanes: i32): void {
  if (!load<u32>(args, 64)) return;
  const length = load<i32>(args, 40);
  const kept = load<i32>(args, 48) - 1;
  const at = <usize>channel << 2;
  const seen = seenAt(args, b, length - 1);
  for (let i = max(0, kept - seen); i < kept; i++)
    addToInput(args, b, length - kept + i, at, lanes, load4(rowOf(args, 64, b * kept + i) + at, lanes));
}

/** One sequence, four channels, four taps, one document: chunks from the last to the first. */
function backwardTiles(args: usize, b: i32, channel: i32, weights: usize, stride: usize): void {
  const length = load<i32>(args, 40);
  const at = <usize>channel << 2;
  memory.fill(scratch + GRAD, 0, 48);
  for (let first = ((length - 1) / CHUNK) * CHUNK; first >= 0; first -= CHUNK) {
    const count = min(CHUNK, length - first);
    // What was the beginning of this tile lies behind the steps of the chunk before it.
    memory.copy(scratch + GRAD + (<usize>count << 4), scratch + GRAD, 48);
    gradPreSteps(args, b, at, first, count, weights, stride);
    const w0 = v128.load(weights), w1 = v128.load(weights + stride), w2 = v128.load(weights + 2 * stride), w3 = v128.load(weights + 3 * stride);
    if (!load<u32>(args, 72)) continue;
    const row = <usize>load<u32>(args, 76) << 2;
    let gradX = rowOf(args, 72, b * length + first) + at;
    for (let grad = scratch + GRAD, end = grad + (<usize>count << 4); grad < end; grad += 16) {
      let sum = fma(w3, v128.load(grad), v128.load(gradX));
      sum = fma(w2, v128.load(grad, 16), sum);
      sum = fma(w1, v128.load(grad, 32), sum);
      v128.store(gradX, fma(w0, v128.load(grad, 48), sum));
      gradX += row;
    }
  }
  // Inputs before the first: of time -3 + i, and step t sees it with weight i - t.
  for (let i = 0; i < TAPS - 1; i++)
    for (let t = 0; t <= i; t++) {
      const product = f32x4.mul(v128.load(weights + <usize>(i - t) * stride), v128.load(scratch + GRAD + (<usize>t << 4)));
      if (t < length) addToInput(args, b, i - (TAPS - 1), at, 4, product);
    }
}

/** The tile of gradPre; and its products with the inputs, added to the sums for weight and bias. */
function gradPreSteps(args: usize, b: i32, at: usize, first: i32, count: i32, weights: usize, stride: usize): void {
  const length = load<i32>(args, 40);
  const zero = f32x4.splat(0);
  const before = first > 0 || load<u32>(args, 20) != 0;
  const x0 = before ? v128.load(inputRow(args, b, first - 3) + at) : zero;
  const x1 = before ? v128.load(inputRow(args, b, first - 2) + at) : zero;
  const x2 = before ? v128.load(inputRow(args, b, first - 1) + at) : zero;
  const hasSilu = load<i32>(args, 52) != 0;
  const xRow = <usize>load<u32>(args, 4) << 2;
  if (hasSilu) preSteps(rowOf(args, 0, b * length + first) + at, xRow, count, weights, stride, x0, x1, x2);
  const sums = scratch + SUMS;
  let s0 = v128.load(sums), s1 = v128.load(sums, 16), s2 = v128.load(sums, 32), s3 = v128.load(sums, 48), sb = v128.load(sums, 64);
  let a = x0, c = x1, d = x2;
  let x = rowOf(args, 0, b * length + first) + at;
  let gradY = rowOf(args, 56, b * length + first) + at;
  const gradRow = <usize>load<u32>(args, 60) << 2;
  for (let tile = scratch, end = scratch + (<usize>count << 4); tile < end; tile += 16) {
    const e = v128.load(x);
    let grad = v128.load(gradY);
    if (hasSilu) {
      const bend = v128.load(tile, BEND);
      const slope = fma(v128.load(tile, PRE), f32x4.sub(f32x4.splat(1), bend), f32x4.splat(1));
      grad = f32x4.mul(grad, f32x4.mul(bend, slope));
    }
    v128.store(tile, grad, GRAD);
    s0 = fma(grad, a, s0);
    s1 = fma(grad, c, s1);
    s2 = fma(grad, d, s2);
    s3 = fma(grad, e, s3);
    sb = f32x4.add(sb, grad);
    a = c;
    c = d;
    d = e;
    x += xRow;
    gradY += gradRow;
  }
  v128.store(sums, s0);
  v128.store(sums, s1, 16);
  v128.store(sums, s2, 32);
  v128.store(sums, s3, 48);
  v128.store(sums, sb, 64);
}

/** The tiles of what silu was applied to, and of its sigmoid. */
function preSteps(x: usize, xRow: usize, count: i32, weights: usize, stride: usize, x0: v128, x1: v128, x2: v128): void {
  const w0 = v128.load(weights), w1 = v128.load(weights + stride), w2 = v128.load(weights + 2 * stride), w3 = v128.load(weights + 3 * stride);
  const bias = v128.load(weights + 4 * stride);
  for (let tile = scratch + PRE, end = tile + (<usize>count << 4); tile < end; tile += 16) {
    const x3 = v128.load(x);
    v128.store(tile, fma(w3, x3, fma(w2, x2, fma(w1, x1, fma(w0, x0, bias)))));
    x0 = x1;
    x1 = x2;
    x2 = x3;
    x += xRow;
  }
  sigmoidSteps(scratch + PRE, 16, 4, scratch + BEND, count);
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
