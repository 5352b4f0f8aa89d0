// Comparing arrays of numbers: the largest difference, relative to the largest magnitude of what was expected.
import { expect } from "vitest";

/** max |actual - expected| / max |expected| (absolute when everything expected is tiny). NaN and infinity count as infinite. */
export function worstError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return worst / Math.max(largest, 1e-12);
}

/** Fails with the name and the error when {@link worstError} is above the tolerance. */
export function expectClose(
  name: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  const error = worstError(actual, expected);
  expect(error, `${name}: worst error relative to the largest magnitude`).toBeLessThanOrEqual(tolerance);
}
