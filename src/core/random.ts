// Random numbers from a seed: the same sequence on every platform, with a state that can be written to JSON.
// Source: xoshiro128** 1.1 (Blackman & Vigna 2018, https://prng.di.unimi.it/xoshiro128starstar.c), polar method (Marsaglia 1964).

import { ConfigError, UsageError } from "./errors.ts";

/** A stream of random numbers. Two streams with the same `state` give the same numbers for ever. */
export interface Random {
  /** Uniform in [0, 1), 53 random bits. */
  uniform(): number;
  /** Standard normal: mean 0, variance 1. */
  normal(): number;
  /** Uniform among 0 .. bound-1, without bias. `bound` is an integer in 1 .. 2^53 - 1, else UsageError. */
  integer(bound: number): number;
  /**
   * A copy of the state: four unsigned 32-bit words, then the second value of a pair of normals when one waits.
   * `createRandom(state)` continues from here; JSON keeps it exact.
   */
  readonly state: readonly number[];
}

const TWO_32 = 0x1_0000_0000;
const TWO_53 = 0x20_0000_0000_0000;
const LN_2 = 0.6931471805599453;

/**
 * Makes a generator from a seed (any safe integer, negative ones too) or continues a saved `state`.
 * Period 2^128 - 1. Not for secrets.
 * @throws UsageError for a seed that is no safe integer, ConfigError for a state that no generator has.
 */
export function createRandom(seed: number | readonly number[]): Random {
  return new Xoshiro128(typeof seed === "number" ? wordsOfSeed(seed) : checkState(seed));
}

class Xoshiro128 implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;
  #normal: number | undefined;

  constructor(state: readonly number[]) {
    [this.#a, this.#b, this.#c, this.#d] = state as [number, number, number, number];
    this.#normal = state[4];
  }

  uniform(): number {
    return this.#bits53() / TWO_53;
  }

  normal(): number {
    if (this.#normal !== undefined) {
      const waiting = this.#normal;
      this.#normal = undefined;
      return waiting;
    }
    for (;;) {
      const u = 2 * this.uniform() - 1;
      const v = 2 * this.uniform() - 1;
      const s = u * u + v * v;
      if (s >= 1 || s === 0) continue;
      const scale = Math.sqrt((-2 * logarithm(s)) / s);
      this.#normal = v * scale;
      return u * scale;
    }
  }

  integer(bound: number): number {
    if (!Number.isSafeInteger(bound) || bound < 1) {
      throw new UsageError(
        `random.integer: bound must be an integer from 1 to 2^53 - 1, got ${bound}. Nothing can be drawn from an empty range.`,
      );
    }
    const isSmall = bound <= TWO_32;
    const range = isSmall ? TWO_32 : TWO_53;
    const limit = range - (range % bound);
    for (;;) {
      const bits = isSmall ? this.#next() : this.#bits53();
      if (bits < limit) return bits % bound;
    }
  }

  get state(): readonly number[] {
    const words = [this.#a >>> 0, this.#b >>> 0, this.#c >>> 0, this.#d >>> 0];
    return this.#normal === undefined ? words : [...words, this.#normal];
  }

  #bits53(): number {
    const high = this.#next() >>> 5;
    return high * 0x400_0000 + (this.#next() >>> 6);
  }

  #next(): number {
    const mixed = Math.imul(this.#b, 5);
    const result = Math.imul((mixed << 7) | (mixed >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }
}

/** Four words from one seed; different seeds give different words, and near seeds share nothing. */
function wordsOfSeed(seed: number): readonly number[] {
  if (!Number.isSafeInteger(seed)) {
    throw new UsageError(
      `random: seed must be a safe integer (at most 2^53 - 1 in magnitude), got ${seed}. Choose a smaller whole number.`,
    );
  }
  const high = mix32(Math.floor(seed / TWO_32) | 0);
  const low = mix32((seed | 0) ^ high);
  const step = 0x9e3779b9;
  // mix32 is a bijection, so the first two words are never both zero, and words 1 and 3 give the seed back.
  return [
    mix32((low + step) | 0),
    mix32((low + 2 * step) | 0),
    mix32(((low ^ high) + 3 * step) | 0),
    mix32(((low ^ high) + 4 * step) | 0),
  ];
}

/** A bijection of 32-bit words ("lowbias32" of Wellons' hash-prospector, 2023 constants). */
function mix32(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0xd35a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

function checkState(state: readonly number[]): readonly number[] {
  const words = state.slice(0, 4);
  const areWords = words.length === 4 && words.every((word) => Number.isInteger(word) && word >= 0 && word < TWO_32);
  const isNormal = state.length === 4 || (state.length === 5 && Number.isFinite(state[4]));
  if (!areWords || !isNormal || words.every((word) => word === 0)) {
    throw new ConfigError(
      `random: a saved state is four integers in 0 .. 2^32 - 1, not all zero, and at most one number more, got ${JSON.stringify(state).slice(0, 100)}. Start from a seed instead.`,
    );
  }
  return state;
}

/**
 * Natural logarithm for 0 < x < 1, by arithmetic that IEEE 754 fixes to the bit (Math.log may differ between engines):
 * x = m 2^e with m in [sqrt(1/2), sqrt(2)), then ln m = 2 atanh(t), t = (m - 1) / (m + 1), |t| < 0.172. Relative error < 1e-15.
 */
function logarithm(x: number): number {
  let m = x;
  let e = 0;
  while (m < Math.SQRT1_2) {
    m *= 2;
    e -= 1;
  }
  const t = (m - 1) / (m + 1);
  const t2 = t * t;
  let sum = 0;
  for (let k = 21; k >= 1; k -= 2) sum = sum * t2 + 1 / k;
  return e * LN_2 + 2 * t * sum;
}
