// A Fourier transform in float64: the oracle of the fast ones, itself tested against the sum that defines it.
// Source: Cooley & Tukey 1965; decimation in time, radix 2.

/** The least power of two that is at least `count`. */
export function powerOfTwoFrom(count: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, count)));
}

/** X[k] = sum_n x[n] exp(∓2πi k n / size), in place; `sign` -1 forward, 1 inverse (without the factor 1 / size). */
export function fft(re: Float64Array, im: Float64Array, sign: 1 | -1): void {
  const size = re.length;
  reverseBits(re, im);
  for (let half = 1; half < size; half *= 2)
    for (let j = 0; j < half; j++) {
      const cos = Math.cos((Math.PI * j) / half);
      const sin = sign * Math.sin((Math.PI * j) / half);
      for (let low = j; low < size; low += 2 * half) {
        const high = low + half;
        const [a, b] = [cos * re[high] - sin * im[high], cos * im[high] + sin * re[high]];
        re[high] = re[low] - a;
        im[high] = im[low] - b;
        re[low] += a;
        im[low] += b;
      }
    }
}

function reverseBits(re: Float64Array, im: Float64Array): void {
  const size = re.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    [re[i], re[j]] = [re[j], re[i]];
    [im[i], im[j]] = [im[j], im[i]];
  }
}

/** Real numbers with zeros behind them, transformed. */
export interface Spectrum {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

export function spectrumOf(values: ArrayLike<number>, size: number): Spectrum {
  const spectrum = { re: new Float64Array(size), im: new Float64Array(size) };
  spectrum.re.set(values);
  fft(spectrum.re, spectrum.im, -1);
  return spectrum;
}

/** The inverse transform of a · b, or of a · conj(b) (a correlation), whose result is real. */
export function productOf(a: Spectrum, b: Spectrum, isCorrelation = false): Float64Array {
  const size = a.re.length;
  const sign = isCorrelation ? -1 : 1;
  const re = a.re.map((value, k) => (value * b.re[k] - sign * a.im[k] * b.im[k]) / size);
  const im = a.im.map((value, k) => (value * b.re[k] + sign * a.re[k] * b.im[k]) / size);
  fft(re, im, 1);
  return re;
}
