// Draws of several things at once.
import type { Random } from "../../core/random.ts";

/** `count` distinct integers of 0 .. bound-1, every ordered choice as likely as any other. Time and memory grow with count alone. */
export function drawDistinct(random: Random, bound: number, count: number): Int32Array {
  // The first steps of a Fisher-Yates shuffle of 0 .. bound-1, of which only what was moved is held.
  const moved = new Map<number, number>();
  const drawn = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const at = i + random.integer(bound - i);
    drawn[i] = moved.get(at) ?? at;
    moved.set(at, moved.get(i) ?? i);
  }
  return drawn;
}

/**
 * `count` distinct indices of `weights`, drawn one after the other, each in proportion to its weight among those left.
 * By exponential clocks: index i rings at -ln(u) / weights[i], and they are taken as they ring.
 */
export function drawWeighted(random: Random, weights: Float64Array, count: number): Int32Array {
  const times = weights.map((weight) => -Math.log(1 - random.uniform()) / weight);
  const order = Int32Array.from(weights, (_, i) => i).sort((a, b) => times[a] - times[b]);
  return order.subarray(0, count);
}
