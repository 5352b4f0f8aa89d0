// Tests of the seeded generator: known answers, saved states, and the shape of its distributions.

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError, UsageError } from "./errors.ts";
import { createRandom } from "./random.ts";

describe("createRandom", () => {
  it("follows xoshiro128** word by word", () => {
    // From the authors' C source, compiled and run with this state.
    const expected = [
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ];
    const random = createRandom([1, 2, 3, 4]);
    expect(expected.map(() => random.integer(2 ** 32))).toEqual(expected);
  });

  it("gives the same numbers for the same seed, whatever the platform", () => {
    const random = createRandom(42);
    expect([random.uniform(), random.normal(), random.normal(), random.integer(1000)]).toMatchInlineSnapshot(`
      [
        0.825523263122767,
        -0.10785780742878978,
        -1.808632034029027,
        926,
      ]
    `);
  });

  it("continues from a saved state, through JSON, with a waiting normal too", () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.nat(20), (seed, draws) => {
        const random = createRandom(seed);
        for (let i = 0; i < draws; i++) random.normal();
        const copy = createRandom(JSON.parse(JSON.stringify(random.state)) as number[]);
        const read = (r: typeof random): number[] => [
          r.normal(),
          r.uniform(),
          r.integer(7),
          r.integer(2 ** 40),
          r.normal(),
        ];
        expect(read(copy)).toEqual(read(random));
        expect(copy.state).toEqual(random.state);
      }),
      { numRuns: 200 },
    );
  });

  it("gives unrelated streams for near seeds", () => {
    const firsts = new Set<number>();
    for (let seed = -500; seed < 500; seed++) firsts.add(createRandom(seed).uniform());
    for (let k = 33; k < 53; k++) firsts.add(createRandom(2 ** k).uniform());
    expect(firsts.size).toBe(1020);
  });

  it("is uniform: 100 cells, 100 000 draws, chi-square below its 99.99 % point", () => {
    const random = createRandom(1);
    const byUniform = Array.from({ length: 100 }, () => 0);
    const byInteger = Array.from({ length: 100 }, () => 0);
    for (let i = 0; i < 100_000; i++) {
      byUniform[Math.floor(random.uniform() * 100)] += 1;
      byInteger[random.integer(100)] += 1;
    }
    for (const counts of [byUniform, byInteger]) {
      const chiSquare = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
      expect(chiSquare).toBeLessThan(161);
    }
  });

  it("has unbiased integers where a plain remainder would not", () => {
    // With bound 3 * 2^30 a plain remainder gives the lowest third half of all draws.
    const random = createRandom(5);
    let low = 0;
    for (let i = 0; i < 30_000; i++) if (random.integer(3 * 2 ** 30) < 2 ** 30) low += 1;
    expect(Math.abs(low / 30_000 - 1 / 3)).toBeLessThan(0.012);
  });

  it("is normal: moments and tails of 200 000 draws", () => {
    const random = createRandom(7);
    const n = 200_000;
    let [sum, squares, cubes, fourths, beyondTwo] = [0, 0, 0, 0, 0];
    for (let i = 0; i < n; i++) {
      const z = random.normal();
      sum += z;
      squares += z * z;
      cubes += z ** 3;
      fourths += z ** 4;
      if (Math.abs(z) > 2) beyondTwo += 1;
    }
    // Five standard errors each.
    expect(Math.abs(sum / n)).toBeLessThan(5 / Math.sqrt(n));
    expect(Math.abs(squares / n - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
    expect(Math.abs(cubes / n)).toBeLessThan(5 * Math.sqrt(15 / n));
    expect(Math.abs(fourths / n - 3)).toBeLessThan(5 * Math.sqrt(96 / n));
    expect(Math.abs(beyondTwo / n - 0.0455)).toBeLessThan(5 * Math.sqrt(0.0455 / n));
  });

  it("refuses bad seeds, states and bounds", () => {
    expect(() => createRandom(0.5)).toThrow(UsageError);
    expect(() => createRandom(2 ** 53)).toThrow(UsageError);
    expect(() => createRandom(Number.NaN)).toThrow(UsageError);
    for (const state of [
      [],
      [1, 2, 3],
      [0, 0, 0, 0],
      [1, 2, 3, -4],
      [1, 2, 3, 2 ** 32],
      [1, 2, 3, 4, Number.NaN],
      [1, 2, 3, 4, 5, 6],
    ]) {
      expect(() => createRandom(state)).toThrow(ConfigError);
    }
    for (const bound of [0, -1, 1.5, Number.NaN, 2 ** 53])
      expect(() => createRandom(1).integer(bound)).toThrow(UsageError);
  });
});
