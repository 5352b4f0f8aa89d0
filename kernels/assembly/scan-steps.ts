// The recurrence of the scan for one channel over the steps of a chunk, lanes over states.
// Gu & Dao 2023, Alg. 2, eq. 2: h = exp(dt A) h + dt x B, y = C h.
//
// In two passes, because each then fits the registers: first all exponentials, then the recurrence. One pass with four
// vectors of state took 10 % longer. `vectors`, `adds` and `masks` are constants wherever these functions are inlined.
import { EXP2_CONSTANTS, exp2Product, fma } from "./math";

/** Below this product of the largest dt * log2(e) and the largest |A| no exponential underflows. */
export const TAME: f32 = 125;

/** decay[step][state] = exp(dt A): 2^(dt * A) with dt * log2(e), 16 bytes a step; rows of `states` elements. */
export function decays(count: i32, states: i32, A: usize, dt: usize, decay: usize, isTame: bool): void {
  const row = <usize>states << 2;
  for (; states >= 8; states -= 8) {
    if (isTame) decayPair(false, count, A, dt, decay, row);
    else decayPair(true, count, A, dt, decay, row);
    A += 32;
    decay += 32;
  }
  if (states) decaySingle(count, A, dt, decay, row);
}

// @ts-ignore: decorator
@inline
function decayPair(masks: bool, count: i32, A: usize, dt: usize, decay: usize, row: usize): void {
  const round = v128.load32_splat(EXP2_CONSTANTS), c1 = v128.load32_splat(EXP2_CONSTANTS, 4);
  const c2 = v128.load32_splat(EXP2_CONSTANTS, 8), c3 = v128.load32_splat(EXP2_CONSTANTS, 12);
  const c4 = v128.load32_splat(EXP2_CONSTANTS, 16), c5 = v128.load32_splat(EXP2_CONSTANTS, 20);
  const one = v128.load32_splat(EXP2_CONSTANTS, 24), least = v128.load32_splat(EXP2_CONSTANTS, 28);
  const a0 = v128.load(A), a1 = v128.load(A, 16);
  const end = dt + ((<usize>count) << 4);
  while (dt < end) {
    const d = v128.load32_splat(dt);
    v128.store(decay, exp2Product(masks, d, a0, round, c1, c2, c3, c4, c5, one, least));
    v128.store(decay, exp2Product(masks, d, a1, round, c1, c2, c3, c4, c5, one, least), 16);
    dt += 16;
    decay += row;
  }
}

/** The last four states, when their number is odd in vectors. */
function decaySingle(count: i32, A: usize, dt: usize, decay: usize, row: usize): void {
  const round = v128.load32_splat(EXP2_CONSTANTS), c1 = v128.load32_splat(EXP2_CONSTANTS, 4);
  const c2 = v128.load32_splat(EXP2_CONSTANTS, 8), c3 = v128.load32_splat(EXP2_CONSTANTS, 12);
  const c4 = v128.load32_splat(EXP2_CONSTANTS, 16), c5 = v128.load32_splat(EXP2_CONSTANTS, 20);
  const one = v128.load32_splat(EXP2_CONSTANTS, 24), least = v128.load32_splat(EXP2_CONSTANTS, 28);
  const a = v128.load(A);
  for (let step = 0; step < count; step++) {
    v128.store(decay, exp2Product(true, v128.load32_splat(dt), a, round, c1, c2, c3, c4, c5, one, least));
    dt += 16;
    decay += row;
  }
}

/**
 * h = decay h + dtx B over `count` steps, from and to the state at `h`.
 * @param dtx dt * x, 16 bytes a step   @param decay, B, C rows of `states` elements
 * @param partial 4 lanes a step, whose sum is C h
 */
export function recur(count: i32, states: i32, h: usize, dtx: usize, decay: usize, B: usize, C: usize, partial: usize): void {
  if (states == 16) return recurVectors(4, false, count, h, dtx, decay, B, C, 64, partial);
  memory.fill(partial, 0, (<usize>count) << 4);
  const row = <usize>states << 2;
  for (; states >= 16; states -= 16) {
    recurVectors(4, true, count, h, dtx, decay, B, C, row, partial);
    h += 64;
    decay += 64;
    B += 64;
    C += 64;
  }
  for (; states > 0; states -= 4) {
    recurVectors(1, true, count, h, dtx, decay, B, C, row, partial);
    h += 16;
    decay += 16;
    B += 16;
    C += 16;
  }
}

// @ts-ignore: decorator
@inline
function recurVectors(
  vectors: i32, adds: bool, count: i32,
  h: usize, dtx: usize, decay: usize, B: usize, C: usize, row: usize, partial: usize,
): void {
  let h0 = v128.load(h);
  let h1 = vectors > 1 ? v128.load(h, 16) : h0;
  let h2 = vectors > 1 ? v128.load(h, 32) : h0;
  let h3 = vectors > 1 ? v128.load(h, 48) : h0;
  const end = partial + ((<usize>count) << 4);
  while (partial < end) {
    const u = v128.load32_splat(dtx);
    h0 = fma(v128.load(decay), h0, f32x4.mul(u, v128.load(B)));
    let y = f32x4.mul(h0, v128.load(C));
    if (vectors > 1) {
      h1 = fma(v128.load(decay, 16), h1, f32x4.mul(u, v128.load(B, 16)));
      h2 = fma(v128.load(decay, 32), h2, f32x4.mul(u, v128.load(B, 32)));
      h3 = fma(v128.load(decay, 48), h3, f32x4.mul(u, v128.load(B, 48)));
      y = f32x4.add(fma(h1, v128.load(C, 16), y), fma(h3, v128.load(C, 48), f32x4.mul(h2, v128.load(C, 32))));
    }
    if (adds) y = f32x4.add(y, v128.load(partial));
    v128.store(partial, y);
    dtx += 16;
    decay += row;
    B += row;
    C += row;
    partial += 16;
  }
  v128.store(h, h0);
  if (vectors > 1) {
    v128.store(h, h1, 16);
    v128.store(h, h2, 32);
    v128.store(h, h3, 48);
  }
}

/**
 * One step of 16 states for `channels` channels, each from its row at `h` to its row at `next`: decoding. Same bits as
 * {@link decays} and {@link recur}.
 * @param rowOfA, rowOfH, rowOfNext bytes from channel to channel   @param dt, dtx 4 bytes a channel
 * @param partial channel c has its 4 lanes, whose sum is C h, at (c mod 4) * tile + (c div 4) * 16
 */
export function stepChannels16(
  channels: i32, A: usize, rowOfA: usize, h: usize, rowOfH: usize, next: usize, rowOfNext: usize,
  dt: usize, dtx: usize, B: usize, C: usize, partial: usize, tile: usize,
): void {
  const round = v128.load32_splat(EXP2_CONSTANTS), c1 = v128.load32_splat(EXP2_CONSTANTS, 4);
  const c2 = v128.load32_splat(EXP2_CONSTANTS, 8), c3 = v128.load32_splat(EXP2_CONSTANTS, 12);
  const c4 = v128.load32_splat(EXP2_CONSTANTS, 16), c5 = v128.load32_splat(EXP2_CONSTANTS, 20);
  const one = v128.load32_splat(EXP2_CONSTANTS, 24), least = v128.load32_splat(EXP2_CONSTANTS, 28);
  for (let channel = 0; channel < channels; channel++) {
    const d = v128.load32_splat(dt), u = v128.load32_splat(dtx);
    let a = v128.load(A);
    let e = exp2Product(true, d, a, round, c1, c2, c3, c4, c5, one, least);
    const h0 = fma(e, v128.load(h), f32x4.mul(u, v128.load(B)));
    v128.store(next, h0);
    a = v128.load(A, 16);
    e = exp2Product(true, d, a, round, c1, c2, c3, c4, c5, one, least);
    const h1 = fma(e, v128.load(h, 16), f32x4.mul(u, v128.load(B, 16)));
    v128.store(next, h1, 16);
    const low = fma(h1, v128.load(C, 16), f32x4.mul(h0, v128.load(C)));
    a = v128.load(A, 32);
    e = exp2Product(true, d, a, round, c1, c2, c3, c4, c5, one, least);
    const h2 = fma(e, v128.load(h, 32), f32x4.mul(u, v128.load(B, 32)));
    v128.store(next, h2, 32);
    a = v128.load(A, 48);
    e = exp2Product(true, d, a, round, c1, c2, c3, c4, c5, one, least);
    const h3 = fma(e, v128.load(h, 48), f32x4.mul(u, v128.load(B, 48)));
    v128.store(next, h3, 48);
    const high = fma(h3, v128.load(C, 48), f32x4.mul(h2, v128.load(C, 32)));
    v128.store(partial + <usize>(channel & 3) * tile + ((<usize>(channel >> 2)) << 4), f32x4.add(low, high));
    A += rowOfA;
    h += rowOfH;
    next += rowOfNext;
    dt += 4;
    dtx += 4;
  }
}
