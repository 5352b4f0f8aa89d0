// Tests of sampling: supports equal a naive implementation's, frequencies the probabilities, states continue.

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError, UsageError } from "../core/errors.ts";
import { createRandom } from "../core/random.ts";
import { exponential } from "./sampling-select.ts";
import type { SamplingOptions } from "./sampling.ts";
import { createSampler } from "./sampling.ts";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

/** Probabilities of all tokens by full sorts and Math.exp, in the documented order. */
function naive(logits: Float32Array, seen: readonly number[], o: SamplingOptions): Map<number, number> {
  const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = o;
  const scores = logits.slice(0, o.vocabSize ?? logits.length);
  for (const id of new Set(seen)) {
    if (id < scores.length)
      scores[id] = scores[id] < 0 ? scores[id] * repetitionPenalty : scores[id] / repetitionPenalty;
  }
  let ids = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
  if (topK > 0) ids = ids.slice(0, topK);
  const weights = ids.map((id) => Math.exp((scores[id] - scores[ids[0]]) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let sum = 0;
  const kept = ids.filter((_, i) => {
    const isKept = topP === 1 || i === 0 || sum < topP * total;
    sum += weights[i];
    return isKept && weights[i] >= minP && weights[i] > 0;
  });
  const keptTotal = kept.reduce((all, _, i) => all + weights[i], 0);
  return new Map(kept.map((id, i) => [id, weights[i] / keptTotal]));
}

function draws(logits: Float32Array, o: SamplingOptions, seen: readonly number[], count: number): Map<number, number> {
  const sampler = createSampler(o);
  for (const id of seen) sampler.observe(id);
  const counts = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const id = sampler.sample(logits);
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

const normalLogits = (length: number, seed: number, scale = 2): Float32Array => {
  const random = createRandom(seed);
  return Float32Array.from({ length }, () => scale * random.normal());
};

describe("createSampler", () => {
  it("is greedy at temperature 0: the lowest id among the largest, without a random number", () => {
    const sampler = createSampler({ temperature: 0, topK: 3, topP: 0.5, minP: 0.5 });
    const before = sampler.state;
    expect(sampler.sample(Float32Array.of(1, 5, 2, 5, 5))).toBe(1);
    expect(sampler.sample(Float32Array.of(-infinity, -3, infinity, infinity))).toBe(2);
    expect(sampler.state).toEqual(before);
  });

  it("draws only and all of what a naive implementation keeps", () => {
    const options = fc.record(
      {
        temperature: fc.double({ min: 0.3, max: 3, noNaN: true }),
        topK: fc.integer({ min: 0, max: 12 }),
        topP: fc.double({ min: 0.05, max: 0.99, noNaN: true }),
        minP: fc.double({ min: 0, max: 0.5, noNaN: true }),
        repetitionPenalty: fc.double({ min: 0.5, max: 2, noNaN: true }),
        vocabSize: fc.integer({ min: 1, max: 40 }),
      },
      { requiredKeys: [] },
    );
    const logits = fc.array(fc.integer({ min: -8, max: 8 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(logits, fc.array(fc.nat(30), { maxLength: 5 }), options, fc.nat(), (values, seen, o, seed) => {
        const scores = Float32Array.from(values, (value) => value / 4);
        const expected = naive(scores, seen, o);
        const counts = draws(scores, { ...o, seed }, seen, 300);
        expect([...counts.keys()].filter((id) => !expected.has(id))).toEqual([]);
        // 300 draws miss a token of probability 0.1 once in 5e13.
        const likely = [...expected].filter(([, probability]) => probability > 0.1).map(([id]) => id);
        expect(likely.filter((id) => !counts.has(id))).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it.each<SamplingOptions>([
    { topP: 0.3 },
    { topP: 0.8, temperature: 0.5 },
    { topP: 0.999, temperature: 1.5 },
    { topK: 700 },
    { topK: 700, topP: 0.9 },
    { minP: 0.1 },
    { topP: 0.9, minP: 0.05, repetitionPenalty: 1.3 },
  ])("keeps the naive set in a vocabulary of 3000, with ties: %j", (o) => {
    const n = 2500;
    const logits = normalLogits(3000, 1).map((value) => Math.round(value * 20) / 20);
    const expected = naive(logits, [5, 6, 7], o);
    const counts = draws(logits, o, [5, 6, 7], n);
    expect([...counts.keys()].filter((id) => !expected.has(id))).toEqual([]);
    const missed = [...expected].reduce((sum, [id, p]) => sum + (counts.has(id) ? 0 : p), 0);
    const expectedMiss = [...expected.values()].reduce((sum, p) => sum + p * (1 - p) ** n, 0);
    expect(missed).toBeLessThan(2 * expectedMiss + 0.003);
  });

  it.each<SamplingOptions>([
    {},
    { temperature: 0.7, topK: 12 },
    { topP: 0.8 },
    { minP: 0.05, temperature: 1.4 },
    { repetitionPenalty: 1.5, topP: 0.95 },
  ])("draws with the right frequencies (chi-square): %j", (o) => {
    const logits = normalLogits(40, 3, 1);
    const expected = naive(logits, [1, 2, 3], o);
    const n = 40_000;
    const counts = draws(logits, { ...o, seed: 11 }, [1, 2, 3], n);
    let chiSquare = 0;
    for (const [id, probability] of expected)
      chiSquare += ((counts.get(id) ?? 0) - n * probability) ** 2 / (n * probability);
    // Mean df, variance 2 df: six standard deviations.
    const freedom = expected.size - 1;
    expect(chiSquare).toBeLessThan(freedom + 6 * Math.sqrt(2 * freedom));
  });

  it("keeps exactly topK tokens, ties by lower id, and the whole set when all are equal", () => {
    const flat = new Float32Array(2000);
    expect(new Set(draws(flat, { topK: 3 }, [], 500).keys())).toEqual(new Set([0, 1, 2]));
    const half = [...draws(flat, { topP: 0.01 }, [], 3000).keys()];
    expect(Math.max(...half)).toBe(19);
    expect(draws(Float32Array.of(3, 3), { topP: 0.5 }, [], 50)).toEqual(new Map([[0, 50]]));
  });

  it("counts a token once for the penalty, however often it was seen, and divides or multiplies by sign", () => {
    const sampler = createSampler({ temperature: 0, repetitionPenalty: 2 });
    for (let i = 0; i < 10; i++) sampler.observe(0);
    expect(sampler.sample(Float32Array.of(4, 1.9))).toBe(0);
    expect(sampler.sample(Float32Array.of(4, 2.1))).toBe(1);
    expect(sampler.sample(Float32Array.of(-1, -1.9))).toBe(1);
    expect(sampler.sample(Float32Array.of(4, 3, 2), Int32Array.of(1))).toBe(0);
    expect(sampler.state.seen).toEqual([0, 1]);
  });

  it("never changes the logits", () => {
    const logits = normalLogits(500, 9);
    const copy = logits.slice();
    const sampler = createSampler({ topK: 50, topP: 0.9, minP: 0.01, repetitionPenalty: 1.2, vocabSize: 400 });
    for (let i = 0; i < 20; i++) sampler.observe(sampler.sample(logits));
    expect(logits).toEqual(copy);
  });

  it("masks padded ids", () => {
    expect(createSampler({ temperature: 0, vocabSize: 2 }).sample(Float32Array.of(1, 2, 9))).toBe(1);
    expect(draws(Float32Array.of(1, 2, 99), { vocabSize: 2 }, [], 100).has(2)).toBe(false);
    expect(createSampler({ temperature: 0, vocabSize: 2 }).sample(Float32Array.of(1, 2, nan))).toBe(1);
  });

  it("takes infinities: +Infinity all, -Infinity nothing", () => {
    for (const o of [{}, { topP: 0.9 }, { topK: 2 }, { minP: 0.2 }, { temperature: 1e-30 }, { temperature: 1e300 }]) {
      const drawn = draws(Float32Array.of(1, infinity, -infinity, infinity), o, [], 60);
      for (const id of drawn.keys()) expect([1, 3]).toContain(id);
      expect(draws(Float32Array.of(-infinity, 3, -infinity), o, [], 30)).toEqual(new Map([[1, 30]]));
    }
    expect(draws(Float32Array.of(1, infinity, infinity), {}, [], 60).has(0)).toBe(false);
  });

  it("refuses NaN, nothing to choose from, and options out of range", () => {
    for (const temperature of [0, 1]) {
      const sampler = createSampler({ temperature });
      expect(() => sampler.sample(Float32Array.of(1, nan, 2))).toThrow(
        /logits must be numbers, got NaN for token 1 of 3/,
      );
      expect(() => sampler.sample(Float32Array.of(-infinity, -infinity))).toThrow(DataError);
      expect(() => sampler.sample(new Float32Array(0))).toThrow(DataError);
      expect(() => sampler.observe(-1)).toThrow(DataError);
      expect(() => sampler.observe(2 ** 30)).toThrow(DataError);
    }
    const bad: SamplingOptions[] = [
      ...[-1, nan, infinity].map((temperature) => ({ temperature })),
      ...[-1, 1.5, nan].map((topK) => ({ topK })),
      ...[0, 1.1, nan, -1].map((topP) => ({ topP })),
      ...[-0.1, 1.1, nan].map((minP) => ({ minP })),
      ...[0, -1, nan, infinity].map((repetitionPenalty) => ({ repetitionPenalty })),
      ...[0, 1.5].map((vocabSize) => ({ vocabSize })),
      { seed: 0.5 },
    ];
    for (const o of bad) expect(() => createSampler(o)).toThrow(UsageError);
    expect(() => createSampler({ samplerState: { random: [1], seen: [] } })).toThrow(ConfigError);
  });

  it("gives the same tokens for the same seed, and goes on from a saved state", () => {
    const logits = normalLogits(300, 4);
    const o = { topP: 0.95, repetitionPenalty: 1.1, seed: 5 };
    const run = (sampler: ReturnType<typeof createSampler>, count: number): number[] =>
      Array.from({ length: count }, () => {
        const id = sampler.sample(logits);
        sampler.observe(id);
        return id;
      });
    const whole = run(createSampler(o), 60);
    expect(run(createSampler(o), 60)).toEqual(whole);
    expect(run(createSampler({ ...o, seed: 6 }), 60)).not.toEqual(whole);
    const first = createSampler(o);
    run(first, 25);
    const saved = JSON.parse(JSON.stringify(first.state)) as typeof first.state;
    expect(run(createSampler({ ...o, seed: 99, samplerState: saved }), 35)).toEqual(whole.slice(25));
  });
});

it("exponential is exp below 0", () => {
  let worst = 0;
  for (let x = 0; x > -700; x -= 0.0137) worst = Math.max(worst, Math.abs(exponential(x) / Math.exp(x) - 1));
  expect(worst).toBeLessThan(1e-10);
  expect([exponential(0), exponential(-710), exponential(-infinity)]).toEqual([1, 0, 0]);
});
