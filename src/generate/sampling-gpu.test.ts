// sampleTokens: greedy as on the CPU, the candidates of top-k, top-p and min-p, and frequencies of draws.
import { beforeAll, describe, expect, it } from "vitest";
import { gpuBackend, hasGpu } from "../../test/support/backends.ts";
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import { createRandom } from "../core/random.ts";
import type { Random } from "../core/random.ts";
import { Candidates } from "./sampling-select.ts";
import { createSampler } from "./sampling.ts";
import type { SamplingOptions } from "./sampling.ts";
import { scope } from "../tensor/scope.ts";
import { emptyTensor, tensorFrom } from "../tensor/tensor.ts";
import { sampleFailure, sampleTokens } from "../ops/sample-tokens/index.ts";

const WORD = 2 ** 32;

describe.skipIf(!hasGpu)("sampleTokens", () => {
  let backend: WebGpuBackend;
  beforeAll(async () => {
    backend = await gpuBackend();
  });

  /** One choice for each row; row i has seed `seed + i`. */
  async function choose(
    rows: readonly ArrayLike<number>[],
    options: SamplingOptions,
    seen?: readonly number[],
  ): Promise<Int32Array> {
    const [batch, count] = [rows.length, rows[0].length];
    const ring = scope(() => {
      const words = Math.ceil(count / 32);
      const bits = new Int32Array(batch * words);
      for (const id of seen ?? [])
        for (let row = 0; row < batch; row++) bits[row * words + (id >> 5)] |= 1 << (id & 31);
      const seeds = Int32Array.from({ length: 4 * batch }, (_, i) =>
        i % 4 === 0 ? (options.seed ?? 0) + (i >> 2) : 0,
      );
      const tensors = {
        logits: tensorFrom(backend, Float32Array.from(rows.flatMap((row) => Array.from(row))), [batch, 1, count]),
        draws: tensorFrom(backend, seeds, [batch, 4], "i32"),
        seen: seen && tensorFrom(backend, bits, [batch, words], "i32"),
        tokens: emptyTensor(backend, [batch, 1], "i32"),
        ring: emptyTensor(backend, [2, batch], "i32"),
      };
      const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, vocabSize = count } = options;
      sampleTokens(backend, tensors, { temperature, topK, topP, minP, repetitionPenalty, vocabSize });
      return tensors.ring;
    });
    const told = (await ring.readNative()) as Int32Array;
    ring.dispose();
    return told.slice(0, batch);
  }

  /** All ids that can be drawn, found by many draws from logits made flat by a high temperature after the cut. */
  async function candidates(logits: Float32Array, options: SamplingOptions, rows: number): Promise<Set<number>> {
    return new Set(
      await choose(
        Array.from({ length: rows }, () => logits),
        options,
      ),
    );
  }

  const normal = (random: Random, count: number, scale = 1): Float32Array =>
    Float32Array.from({ length: count }, () => scale * random.normal());

  it("greedy: the largest logit, the lowest id among equals, whatever the sizes", async () => {
    const random = createRandom(1);
    for (const count of [1, 3, 255, 1030, 5000]) {
      const rows = Array.from({ length: 3 }, () => normal(random, count).map((value) => Math.round(4 * value)));
      rows[1].fill(-0);
      rows[1][count >> 1] = 0;
      const expected = rows.map((row) => createSampler({ temperature: 0 }).sample(row));
      expect([...(await choose(rows, { temperature: 0 }))]).toEqual(expected);
    }
    expect([
      ...(await choose(
        [
          [1, Infinity, 2, Infinity],
          [-Infinity, -Infinity, -5, -6],
        ],
        { temperature: 0 },
      )),
    ]).toEqual([1, 2]);
    expect([...(await choose([[1, 2, 3, 9]], { temperature: 0, vocabSize: 3 }))]).toEqual([2]);
  });

  it("greedy with a penalty, as on the CPU", async () => {
    const rows = [
      [2, 3, -1, 2.9],
      [-1, -2, -3, -1.5],
    ];
    const seen = [0, 1];
    const expected = rows.map((row) =>
      createSampler({ temperature: 0, repetitionPenalty: 2 }).sample(Float32Array.from(row), seen),
    );
    expect([...(await choose(rows, { temperature: 0, repetitionPenalty: 2 }, seen))]).toEqual(expected);
  });

  it("says what is wrong with logits", async () => {
    const [nan, none] = await choose(
      [
        [1, NaN, NaN],
        [-Infinity, -Infinity, -Infinity],
      ],
      {},
    );
    expect(sampleFailure(nan)).toEqual({ nan: 1 });
    expect(sampleFailure(none)).toBe("all -Infinity");
  });

  it("draws with the frequencies of the distribution (chi-square), and the same again from the same seed", async () => {
    const logits = Float32Array.of(0, 1, -1, 2, 0.5, -3, 1.5, -0.5);
    const draws = 4000;
    for (const options of [{ temperature: 0.7 }, { topK: 4, temperature: 2 }, { topP: 0.8, minP: 0.2 }]) {
      const rows = Array.from({ length: draws }, () => logits);
      const chosen = await choose(rows, { seed: 7, ...options });
      expect(await choose(rows, { seed: 7, ...options })).toEqual(chosen);
      const expected = distribution(logits, options);
      let chiSquare = 0;
      for (const [id, share] of expected.entries()) {
        const count = chosen.filter((each) => each === id).length;
        if (share === 0) expect(count).toBe(0);
        else chiSquare += (count - draws * share) ** 2 / (draws * share);
      }
      // The 99.99th percentile with 7 degrees of freedom.
      expect(chiSquare).toBeLessThan(29.9);
    }
  });

  it("keeps exactly the candidates of the CPU", async () => {
    const random = createRandom(5);
    const cases: [Float32Array, SamplingOptions][] = [
      [normal(random, 700, 0.3), { topK: 5 }],
      [normal(random, 700, 0.01), { topK: 12 }],
      [normal(random, 700, 3), { topP: 0.7 }],
      [normal(random, 700, 3), { topK: 20, topP: 0.9, temperature: 3, minP: 0.2 }],
      // More equal scores than are ranked one against another.
      [new Float32Array(1500).fill(2), { topK: 9 }],
      [Float32Array.from({ length: 1500 }, (_, i) => (i % 2 ? 1 : 0)), { topP: 0.01 }],
      // A bin of the first pass that holds nearly all.
      [
        Float32Array.from({ length: 3000 }, (_, i) => (i === 7 ? 1e6 : (i * 7919) % 3000)),
        { topK: 11, temperature: 1e7 },
      ],
    ];
    for (const [logits, options] of cases) {
      const expected = distribution(logits, options).flatMap((share, id) => (share > 0 ? [id] : []));
      const found = await candidates(logits, options, 400);
      expect([...found].toSorted((a, b) => a - b)).toEqual(expected);
    }
  });

  it("draws from words as Philox gives them", async () => {
    // Two equal scores: the draw is the first bit of the second word.
    const expected = [0, 1, 2, 3, 4, 5, 6, 7].map((seed) => (philox([0, 0, 0, 0], [seed, 0])[1] >= WORD / 2 ? 1 : 0));
    const rows = expected.map(() => [1, 1]);
    expect([...(await choose(rows, {}))]).toEqual(expected);
    // The known answer of the authors for zeros.
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  });
});

/** Probabilities after top-k, top-p and min-p, by the CPU's own selection. */
function distribution(logits: Float32Array, options: SamplingOptions): number[] {
  const { temperature = 1, topK = 0, topP = 1, minP = 0 } = options;
  const chosen = new Candidates();
  const largest = logits.reduce((most, each) => Math.max(most, each), -Infinity);
  const least = logits.reduce((most, each) => Math.min(most, each), Infinity);
  chosen.select(logits, topK > 0 && topK < logits.length ? topK : logits.length);
  chosen.weigh(logits, largest, least, temperature);
  if (topP < 1) chosen.keepTop(logits, topP);
  if (minP > 0) chosen.keepAtLeast(minP);
  const draws = 20_000;
  const counts = Array.from(logits, () => 0);
  for (let i = 0; i < draws; i++) counts[chosen.draw((i + 0.5) / draws)]++;
  return counts.map((count) => count / draws);
}

function philox(counter: number[], key: number[]): number[] {
  let [a, b, c, d] = counter.map(BigInt);
  let [k, l] = key.map(BigInt);
  const mask = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const [left, right] = [0xd2511f53n * a, 0xcd9e8d57n * c];
    [a, b, c, d] = [(right >> 32n) ^ b ^ k, right & mask, (left >> 32n) ^ d ^ l, left & mask];
    [k, l] = [(k + 0x9e3779b9n) & mask, (l + 0xbb67ae85n) & mask];
  }
  return [a, b, c, d].map(Number);
}
