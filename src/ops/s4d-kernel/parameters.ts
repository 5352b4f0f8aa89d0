// What the ops of S4D share: the parameters of a layer, their shapes, and their zero-order hold in float64 with its chain rule.
// Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models", sections 2 and 3.
import { ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** The parameters of a layer of `channels` channels with `pairs` conjugate pairs of states each. */
export type S4dParameters = {
  /** `[channels]`: dt = exp(logDt). */
  readonly logDt: Tensor;
  /** `[channels, pairs]`: Re A = -exp(A_log_real). */
  readonly A_log_real: Tensor;
  /** `[channels, pairs]`: Im A. */
  readonly A_imag: Tensor;
  /** `[channels, 2 * pairs]`: C of pair n is column 2n (real) and 2n + 1 (imaginary). */
  readonly C: Tensor;
};

/** Names of the parameters that have gradients. */
export const S4D_PARAMETERS = ["logDt", "A_log_real", "A_imag", "C"] as const;

/** Gradients of parameters, where wanted. */
export type S4dGradients = { readonly [K in keyof S4dParameters]?: Tensor | undefined };

/** Checks shapes. @throws ShapeError in the name of `op` */
export function checkS4dParameters(
  op: string,
  { logDt, A_log_real, A_imag, C }: S4dParameters,
): { channels: number; pairs: number } {
  const [channels, pairs] = A_log_real.shape;
  if (A_log_real.shape.length !== 2 || !channels || !pairs)
    throw new ShapeError(`${op}: A_log_real must be [channels, pairs], got ${formatShape(A_log_real.shape)}.`);
  const expected: [string, Tensor, number[]][] = [
    ["logDt", logDt, [channels]],
    ["A_imag", A_imag, [channels, pairs]],
    ["C", C, [channels, 2 * pairs]],
  ];
  for (const [name, tensor, shape] of expected)
    if (!isSameShape(tensor.shape, shape))
      throw new ShapeError(`${op}: ${name} must be ${formatShape(shape)}, got ${formatShape(tensor.shape)}.`);
  return { channels, pairs };
}

/** A complex number. */
export interface Complex {
  readonly re: number;
  readonly im: number;
}

export function multiply(a: Complex, b: Complex): Complex {
  return { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re };
}

export function divide(a: Complex, b: Complex): Complex {
  const size = b.re * b.re + b.im * b.im;
  return { re: (a.re * b.re + a.im * b.im) / size, im: (a.im * b.re - a.re * b.im) / size };
}

/** e^z. */
export function complexExp({ re, im }: Complex): Complex {
  return { re: Math.exp(re) * Math.cos(im), im: Math.exp(re) * Math.sin(im) };
}

/** e^z - 1, without cancellation near 0. */
export function complexExpm1({ re, im }: Complex): Complex {
  return { re: Math.expm1(re) * Math.cos(im) - 2 * Math.sin(im / 2) ** 2, im: Math.exp(re) * Math.sin(im) };
}

/** A pair of a channel: its parameters and their zero-order hold. */
export interface DiscretePair {
  readonly dt: number;
  readonly A: Complex;
  /** dt A, the logarithm of ABar. */
  readonly dtA: Complex;
  /** exp(dt A). */
  readonly ABar: Complex;
  /** (ABar - 1) / A. */
  readonly BBar: Complex;
  readonly C: Complex;
}

/** Zero-order hold of a pair: ABar = exp(dt A), BBar = (ABar - 1) / A. On the reference backend. */
export function discretePair(parameters: S4dParameters, channel: number, pair: number): DiscretePair {
  const { logDt, A_log_real, A_imag, C } = parameters;
  const dt = Math.exp(hostData(logDt)[logDt.offset + channel]);
  const A = { re: -Math.exp(at(A_log_real, channel, pair)), im: at(A_imag, channel, pair) };
  const dtA = { re: dt * A.re, im: dt * A.im };
  return {
    dt,
    A,
    dtA,
    ABar: complexExp(dtA),
    BBar: divide(complexExpm1(dtA), A),
    C: { re: at(C, channel, 2 * pair), im: at(C, channel, 2 * pair + 1) },
  };
}

/**
 * What a pass over time leaves of a pair: with dABar = ABar d(dt A), the change of the loss is
 * Re(ofPower d(dt A) + ofB dBBar) + 2 Re(ofC dC).
 */
export interface PairSums {
  readonly ofPower: Complex;
  readonly ofB: Complex;
  readonly ofC: Complex;
}

/** The chain rule through the zero-order hold (README.md), added to the gradients. */
export function addPairGradients(
  grads: S4dGradients,
  channel: number,
  pair: number,
  { dt, A, dtA, ABar, BBar }: DiscretePair,
  { ofPower, ofB, ofC }: PairSums,
): void {
  const held = multiply(ofB, divide(ABar, A));
  const P = { re: ofPower.re + held.re, im: ofPower.im + held.im };
  const scaled = multiply(ofB, divide(BBar, A));
  const Q = { re: P.re * dt - scaled.re, im: P.im * dt - scaled.im };
  addTo(grads.logDt, 0, channel, multiply(P, dtA).re);
  addTo(grads.A_log_real, channel, pair, Q.re * A.re);
  addTo(grads.A_imag, channel, pair, -Q.im);
  addTo(grads.C, channel, 2 * pair, 2 * ofC.re);
  addTo(grads.C, channel, 2 * pair + 1, -2 * ofC.im);
}

/** Element (row, column) on the reference backend. */
export function at(tensor: Tensor, row: number, column: number): number {
  return hostData(tensor)[tensor.offset + row * tensor.rowStride + column];
}

/** Adds to an element of a gradient, if it is wanted. */
export function addTo(tensor: Tensor | undefined, row: number, column: number, value: number): void {
  if (tensor) hostData(tensor)[tensor.offset + row * tensor.rowStride + column] += value;
}
