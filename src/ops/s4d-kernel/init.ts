// Initial values of S4D: the poles A of three families, steps dt log-uniform, C complex normal.
// Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models", section 4 (eq. 8 and 9,
// and S4D-LegS, the diagonal of the normal part of HiPPO-LegS).
import { ConfigError } from "../../core/errors.ts";
import type { Random } from "../../core/random.ts";

/** s4d-lin: A = -1/2 + iπn. s4d-inv: A = -1/2 + i (N/π) (N/(2n+1) - 1), N = 2 pairs. s4d-legs: eigenvalues of HiPPO-LegS. */
export type S4dKind = "s4d-lin" | "s4d-inv" | "s4d-legs";

export interface S4dInitOptions {
  readonly channels: number;
  readonly pairs: number;
  readonly kind: S4dKind;
  /** dt is log-uniform between these. Default 0.001 and 0.1. */
  readonly dtMin?: number;
  readonly dtMax?: number;
}

/** Elements of the parameters of a layer, row-major. */
export interface S4dInit {
  readonly logDt: Float32Array;
  readonly A_log_real: Float32Array;
  readonly A_imag: Float32Array;
  readonly C: Float32Array;
}

/** Imaginary parts of the poles, one of each conjugate pair, ascending for s4d-lin and s4d-legs; all real parts are -1/2. */
export function s4dImaginaryParts(kind: S4dKind, pairs: number): Float64Array {
  if (!Number.isInteger(pairs) || pairs < 1)
    throw new ConfigError(`s4dImaginaryParts: pairs must be a positive integer, got ${pairs}.`);
  const N = 2 * pairs;
  if (kind === "s4d-lin") return Float64Array.from({ length: pairs }, (_, n) => Math.PI * n);
  if (kind === "s4d-inv") return Float64Array.from({ length: pairs }, (_, n) => (N / Math.PI) * (N / (2 * n + 1) - 1));
  return legsFrequencies(N);
}

/** Initial values: every channel has the same poles, and its own dt and C (real and imaginary parts of variance 1/2). */
export function initS4d(
  { channels, pairs, kind, dtMin = 0.001, dtMax = 0.1 }: S4dInitOptions,
  random: Random,
): S4dInit {
  const poles = s4dImaginaryParts(kind, pairs);
  const count = channels * pairs;
  const [low, high] = [Math.log(dtMin), Math.log(dtMax)];
  return {
    logDt: Float32Array.from({ length: channels }, () => low + random.uniform() * (high - low)),
    A_log_real: new Float32Array(count).fill(Math.log(0.5)),
    A_imag: Float32Array.from({ length: count }, (_, i) => poles[i % pairs]),
    C: Float32Array.from({ length: 2 * count }, () => random.normal() * Math.SQRT1_2),
  };
}

/**
 * The positive imaginary parts of the eigenvalues of HiPPO-LegS' normal part, ascending. HiPPO-LegS has, with
 * r(n) = sqrt(2n + 1), -r(n) r(k) below its diagonal and -(n + 1) on it. Adding r(n) r(k) / 2 everywhere leaves -1/2 on the
 * diagonal and a skew matrix K beside it; -iK is Hermitian, and its eigenvalues are these and their negatives.
 */
function legsFrequencies(N: number): Float64Array {
  const matrix = { size: N, re: new Float64Array(N * N), im: new Float64Array(N * N) };
  for (let n = 0; n < N; n++)
    for (let k = 0; k < n; k++) {
      // K below the diagonal is -r(n) r(k) / 2, so -iK there is +i r(n) r(k) / 2.
      const half = Math.sqrt((2 * n + 1) * (2 * k + 1)) / 2;
      matrix.im[n * N + k] = half;
      matrix.im[k * N + n] = -half;
    }
  return hermitianEigenvalues(matrix).slice(N / 2);
}

/** A complex matrix, row-major. */
export interface ComplexMatrix {
  readonly size: number;
  readonly re: Float64Array;
  readonly im: Float64Array;
}

/** Sweeps of rotations at the most; convergence is quadratic, and eight are enough for any size in use. */
const MOST_SWEEPS = 60;

/** The eigenvalues of a Hermitian matrix, ascending, by Jacobi's rotations (Golub & Van Loan, section 8.5). Overwrites it. */
export function hermitianEigenvalues(matrix: ComplexMatrix): Float64Array {
  const { size, re, im } = matrix;
  const norm = Math.sqrt(re.reduce((sum, value, i) => sum + value * value + im[i] * im[i], 0));
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    let isDiagonal = true;
    for (let p = 0; p < size; p++)
      for (let q = p + 1; q < size; q++) {
        if (Math.hypot(re[p * size + q], im[p * size + q]) <= 1e-16 * norm) continue;
        isDiagonal = false;
        rotate(matrix, p, q);
      }
    if (isDiagonal) break;
  }
  return Float64Array.from({ length: size }, (_, i) => re[i * size + i]).sort();
}

/** Makes element (p, q) zero: M = U^H M U with a rotation in the plane of p and q, after the phase of (p, q) is taken out. */
function rotate({ size, re, im }: ComplexMatrix, p: number, q: number): void {
  const absolute = Math.hypot(re[p * size + q], im[p * size + q]);
  const phase = { re: re[p * size + q] / absolute, im: im[p * size + q] / absolute };
  const tau = (re[q * size + q] - re[p * size + p]) / (2 * absolute);
  const t = (tau < 0 ? -1 : 1) / (Math.abs(tau) + Math.hypot(1, tau));
  const c = 1 / Math.hypot(1, t);
  const s = { re: t * c * phase.re, im: t * c * phase.im };
  // Columns: p' = c p - conj(s) q, q' = s p + c q; then rows with the conjugates.
  for (let k = 0; k < size; k++) mix(re, im, k * size + p, k * size + q, c, s.re, s.im);
  for (let k = 0; k < size; k++) mix(re, im, p * size + k, q * size + k, c, s.re, -s.im);
  im[p * size + p] = im[q * size + q] = 0;
}

/** (a, b) = (c a - conj(s) b, s a + c b). */
function mix(re: Float64Array, im: Float64Array, a: number, b: number, c: number, sRe: number, sIm: number): void {
  const [aRe, aIm, bRe, bIm] = [re[a], im[a], re[b], im[b]];
  re[a] = c * aRe - (sRe * bRe + sIm * bIm);
  im[a] = c * aIm - (sRe * bIm - sIm * bRe);
  re[b] = sRe * aRe - sIm * aIm + c * bRe;
  im[b] = sRe * aIm + sIm * aRe + c * bIm;
}
