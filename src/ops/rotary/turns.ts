// How far the pairs of a head turn a token, as fractions of a turn in fixed point, so that a position times such a fraction
// keeps what lies behind the point exactly: whole turns fall off as the product overflows.

/**
 * For each pair, base^(-2i / rotaryDim) / 2π · 2^64, as two whole numbers of 32 bits, the high one first. Known to 53 bits.
 */
export function turnsOf(rotaryDim: number, base: number): readonly (readonly [high: number, low: number])[] {
  return Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const scaled = (base ** ((-2 * i) / rotaryDim) / (2 * Math.PI)) * 2 ** 32;
    const high = Math.floor(scaled);
    return [high, Math.floor((scaled - high) * 2 ** 32)];
  });
}
