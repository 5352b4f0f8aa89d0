// gelu on the reference backend, with the error function in float64 by its series and its continued fraction.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { addTo, elementOf, setTo } from "../reference-elements.ts";
import type { GeluInputs, GeluOptions, GeluOutputs } from "./index.ts";

/** Of the approximation by tanh: √(2/π), and the paper's fit. */
const SCALE = Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

export function forward({
  inputs: { x },
  outputs: { y },
  options: { approximate = "none" },
}: ForwardCall<GeluInputs, GeluOutputs, GeluOptions>): void {
  const share = approximate === "none" ? normalBelow : tanhShare;
  for (let row = 0; row < x.rows; row++)
    for (let column = 0; column < x.columns; column++) {
      const v = elementOf(x, row, column);
      setTo(y, row, column, v * share(v));
    }
}

/** grad.x += grad.y (Φ(x) + x φ(x)), φ = Φ'. */
export function backward({
  inputs: { x },
  options: { approximate = "none" },
  gradOutputs: { y: gradY },
  gradInputs,
}: BackwardCall<GeluInputs, GeluOutputs, GeluOptions>): void {
  if (!gradY) return;
  for (let row = 0; row < x.rows; row++)
    for (let column = 0; column < x.columns; column++) {
      const v = elementOf(x, row, column);
      const slope =
        approximate === "none" ? normalBelow(v) + v * normalDensity(v) : tanhShare(v) + v * tanhShareSlope(v);
      addTo(gradInputs.x, row, column, elementOf(gradY, row, column) * slope);
    }
}

function tanhShare(v: number): number {
  return (1 + Math.tanh(SCALE * (v + CUBIC * v ** 3))) / 2;
}

function tanhShareSlope(v: number): number {
  const t = Math.tanh(SCALE * (v + CUBIC * v ** 3));
  return ((1 - t * t) * SCALE * (1 + 3 * CUBIC * v * v)) / 2;
}

function normalDensity(v: number): number {
  return Math.exp((-v * v) / 2) / Math.sqrt(2 * Math.PI);
}

/**
 * Φ(v), to some 1e-15: near zero 1/2 + φ(v) (v + v³/3 + v⁵/(3·5) + ...), farther out φ(v) / (v + 1/(v + 2/(v + 3/(v + ...)))).
 * Source: Abramowitz & Stegun 1964, 26.2.11 and 26.2.14.
 */
export function normalBelow(v: number): number {
  const size = Math.abs(v);
  if (!(size >= 3)) {
    let term = v;
    let sum = v;
    for (let k = 3; Math.abs(term) > 1e-17 * Math.abs(sum); k += 2) {
      term *= (v * v) / k;
      sum += term;
    }
    return 0.5 + normalDensity(v) * sum;
  }
  let fraction = size;
  for (let k = 120; k >= 1; k--) fraction = size + k / fraction;
  const tail = size === Infinity ? 0 : normalDensity(v) / fraction;
  return v < 0 ? tail : 1 - tail;
}
