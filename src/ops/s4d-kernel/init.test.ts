// The poles of S4D against characteristic equations and what is known of large sizes; the distributions of dt and C.
import { describe, expect, it } from "vitest";
import { createRandom } from "../../core/random.ts";
import { hermitianEigenvalues, initS4d, s4dImaginaryParts } from "./init.ts";

describe("hermitianEigenvalues", () => {
  it("solves [[2, 1 - 2i], [1 + 2i, -3]], whose eigenvalues have the sum -1 and the product -11", () => {
    const matrix = { size: 2, re: Float64Array.of(2, 1, 1, -3), im: Float64Array.of(0, -2, 2, 0) };
    const [low, high] = hermitianEigenvalues(matrix);
    expect(low + high).toBeCloseTo(-1, 13);
    expect(low * high).toBeCloseTo(-11, 12);
  });

  it("keeps the trace and the sum of squares of a random matrix", () => {
    const random = createRandom(1);
    const size = 17;
    const re = new Float64Array(size * size);
    const im = new Float64Array(size * size);
    for (let p = 0; p < size; p++)
      for (let q = 0; q <= p; q++) {
        re[p * size + q] = re[q * size + p] = random.normal();
        if (q < p) im[q * size + p] = -(im[p * size + q] = random.normal());
      }
    const trace = Array.from({ length: size }, (_, p) => re[p * size + p]).reduce((a, b) => a + b);
    const squares = re.reduce((sum, value, i) => sum + value ** 2 + im[i] ** 2, 0);
    const values = hermitianEigenvalues({ size, re, im });
    expect(values.reduce((a, b) => a + b)).toBeCloseTo(trace, 11);
    expect(values.reduce((sum, value) => sum + value ** 2, 0)).toBeCloseTo(squares, 10);
    // What is left beside the diagonal is nothing.
    expect(re.reduce((most, value, i) => (i % (size + 1) ? Math.max(most, Math.abs(value)) : most), 0)).toBeLessThan(
      1e-13,
    );
  });
});

describe("s4d-legs", () => {
  const half = (n: number, k: number): number => Math.sqrt((2 * n + 1) * (2 * k + 1)) / 2;

  it("has √3/2 for N = 2", () => {
    expect(s4dImaginaryParts("s4d-legs", 1)[0]).toBeCloseTo(Math.sqrt(3) / 2, 14);
  });

  it("solves w^4 - w² Σ k² + pf² = 0 for N = 4", () => {
    let squares = 0;
    for (let n = 0; n < 4; n++) for (let k = 0; k < n; k++) squares += half(n, k) ** 2;
    const pfaffian = half(0, 1) * half(2, 3) - half(0, 2) * half(1, 3) + half(0, 3) * half(1, 2);
    const frequencies = s4dImaginaryParts("s4d-legs", 2);
    for (const w of Array.from(frequencies)) expect(w ** 4 - w ** 2 * squares + pfaffian ** 2).toBeCloseTo(0, 10);
    expect(frequencies[0]).toBeLessThan(frequencies[1]);
  });

  it.each([8, 32])("falls as N²/π / (2n + 1) from the top, as s4d-inv does (%i pairs)", (pairs) => {
    const legs = s4dImaginaryParts("s4d-legs", pairs).toReversed();
    const inverse = s4dImaginaryParts("s4d-inv", pairs);
    const N = 2 * pairs;
    for (let n = 0; n < pairs / 4; n++) {
      const share = (2 * n + 1) / N;
      expect(Math.abs(legs[n] * share * (Math.PI / N) - 1)).toBeLessThan(2 * share ** 2);
      expect(Math.abs(inverse[n] * share * (Math.PI / N) - 1)).toBeCloseTo(share, 12);
    }
  });
});

it("has the formulas of s4d-lin and s4d-inv", () => {
  expect([...s4dImaginaryParts("s4d-lin", 3)]).toEqual([0, Math.PI, 2 * Math.PI]);
  // N = 4: (4/π) (4/1 - 1) and (4/π) (4/3 - 1).
  const inverse = s4dImaginaryParts("s4d-inv", 2);
  expect(inverse[0]).toBeCloseTo(12 / Math.PI, 14);
  expect(inverse[1]).toBeCloseTo(4 / (3 * Math.PI), 14);
});

it("draws dt log-uniform in [0.001, 0.1] and C complex normal of variance 1; poles are those of every channel", () => {
  const { logDt, A_log_real, A_imag, C } = initS4d({ channels: 4000, pairs: 2, kind: "s4d-legs" }, createRandom(5));
  const mean = (values: Iterable<number>): number => {
    const all = [...values];
    return all.reduce((a, b) => a + b, 0) / all.length;
  };
  expect(Math.min(...logDt)).toBeGreaterThanOrEqual(Math.fround(Math.log(0.001)));
  expect(Math.max(...logDt)).toBeLessThanOrEqual(Math.log(0.1));
  expect(mean(logDt)).toBeCloseTo(Math.log(0.01), 1);
  expect(mean(C)).toBeCloseTo(0, 1);
  expect(mean(C.map((value) => value ** 2))).toBeCloseTo(0.5, 1);
  expect(new Set(A_log_real)).toEqual(new Set([Math.fround(Math.log(0.5))]));
  expect(A_imag.slice(0, 2)).toEqual(A_imag.slice(7998));
});

it("refuses no pairs", () => {
  expect(() => s4dImaginaryParts("s4d-lin", 0)).toThrow("pairs must be a positive integer, got 0");
});
