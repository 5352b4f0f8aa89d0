// Power laws through losses of models of several sizes: loss(x) = floor + scale * x^-exponent (Kaplan et al. 2020; Hoffmann
// et al. 2022, section 3.3), and what sizes two architectures need for the same loss.
//
// For a given floor the law is a line in logarithms: log(loss - floor) = log(scale) - exponent * log(x). So the floor is
// searched, and the line has its closed form. The error that is compared is that of log(loss), whatever the floor is:
// the error of log(loss - floor) would grow with the floor by itself.
import { DataError } from "../core/errors.ts";

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** y = floor + scale * x^-exponent */
export interface PowerLaw {
  readonly floor: number;
  readonly scale: number;
  readonly exponent: number;
  /** Root mean square of log(y / fitted y). */
  readonly error: number;
}

/** The floor is searched in so many steps, then around the best one, so many times. */
const STEPS = 64;
const ROUNDS = 6;

/** A floor that is no floor: this near to the lowest point, the line in logarithms would follow that point alone. */
const HIGHEST = 0.995;

/**
 * Fits a power law. `floor`: "none" fixes it at 0 (two points are enough), "free" searches it from 0 to the lowest y
 * (four points at least: a law of three parameters meets three points exactly, and says nothing).
 * @throws DataError for too few points, or a value that is not above 0.
 */
export function fitPowerLaw(points: readonly Point[], floor: "none" | "free" = "none"): PowerLaw {
  const least = floor === "none" ? 2 : 4;
  const distinct = new Set(points.map(({ x }) => x)).size;
  if (distinct < least)
    throw new DataError(
      `fitPowerLaw: a power law ${floor === "none" ? "without" : "with"} a floor needs ${least} sizes or more, got ${distinct}. Add sizes.`,
    );
  const wrong = points.find(({ x, y }) => !(x > 0 && y > 0 && Number.isFinite(x) && Number.isFinite(y)));
  if (wrong !== undefined)
    throw new DataError(
      `fitPowerLaw: x and y must be above 0 and finite, got (${wrong.x}, ${wrong.y}). Leave that point out.`,
    );
  const without = fitLine(points, 0);
  if (floor === "none") return without;
  const lowest = Math.min(...points.map(({ y }) => y));
  return search(points, 0, HIGHEST * lowest, without);
}

/** The loss that a law predicts. */
export function predict(law: Omit<PowerLaw, "error">, x: number): number {
  return law.floor + law.scale * x ** -law.exponent;
}

/**
 * How many times as much `of` needs as `to`, at every loss that one of them was measured at and both reach, highest loss
 * first: by straight lines between the points in log(x), log(y). No law is assumed, so a law that fits one of them badly
 * cannot bend the ratio; empty where they share no loss.
 */
export function ratiosAtEqualLoss(of: readonly Point[], to: readonly Point[]): { y: number; ratio: number }[] {
  const losses = [...new Set([...of, ...to].map(({ y }) => y))].toSorted((a, b) => b - a);
  return losses.flatMap((y) => {
    const [numerator, denominator] = [interpolate(of, y), interpolate(to, y)];
    return numerator === undefined || denominator === undefined ? [] : [{ y, ratio: numerator / denominator }];
  });
}

/** Tries floors from `from` to `to`, then around the best of them. */
function search(points: readonly Point[], from: number, to: number, first: PowerLaw): PowerLaw {
  let best = first;
  let [low, high] = [from, to];
  for (let round = 0; round < ROUNDS; round++) {
    const step = (high - low) / STEPS;
    for (let i = 0; i <= STEPS; i++) {
      const law = fitLine(points, low + i * step);
      if (law.error < best.error) best = law;
    }
    [low, high] = [Math.max(from, best.floor - step), Math.min(to, best.floor + step)];
  }
  return best;
}

/** Least squares in logarithms for a given floor. */
function fitLine(points: readonly Point[], floor: number): PowerLaw {
  const logs = points.map(({ x, y }) => [Math.log(x), Math.log(y - floor)] as const);
  const meanX = mean(logs.map(([x]) => x));
  const meanY = mean(logs.map(([, y]) => y));
  const covariance = mean(logs.map(([x, y]) => (x - meanX) * (y - meanY)));
  const variance = mean(logs.map(([x]) => (x - meanX) ** 2));
  const exponent = -covariance / variance;
  const law = { floor, scale: Math.exp(meanY + exponent * meanX), exponent };
  const error = Math.sqrt(mean(points.map(({ x, y }) => Math.log(y / predict(law, x)) ** 2)));
  return { ...law, error };
}

/** The x at which the points, sorted by x, first cross y. */
function interpolate(points: readonly Point[], y: number): number | undefined {
  const sorted = points.toSorted((a, b) => a.x - b.x);
  for (let i = 0; i < sorted.length; i++) {
    if (sorted[i].y === y) return sorted[i].x;
    if (i === 0) continue;
    const [before, after] = [sorted[i - 1], sorted[i]];
    if ((before.y - y) * (after.y - y) >= 0) continue;
    const share = Math.log(y / before.y) / Math.log(after.y / before.y);
    return before.x * (after.x / before.x) ** share;
  }
  return undefined;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
