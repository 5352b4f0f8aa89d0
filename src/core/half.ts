// Conversions between float32 and the 16-bit floats of checkpoints: float16 (IEEE 754 binary16) and bfloat16 (upper half of float32).
// Encoding rounds to nearest, ties to even; infinities, subnormals and signed zeros survive, and a NaN becomes a quiet NaN.

let float16Table: Uint32Array | undefined;

/** Bits of the float32 that equals the float16 of bits `half`. */
function widenFloat16(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // A subnormal, mantissa * 2^-24: shift the leading one up to the hidden bit.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

/** All 65536 float16 values as float32 bits, built at first use. */
function getFloat16Table(): Uint32Array {
  if (float16Table === undefined) {
    float16Table = new Uint32Array(65536);
    for (let half = 0; half < 65536; half++) float16Table[half] = widenFloat16(half);
  }
  return float16Table;
}

/** The same memory as 32-bit words, so that NaN payloads pass unchanged. */
function wordsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** target[i] = the value of float16 bits source[i], exactly. `target` is at least as long as `source`. */
export function float16ToFloat32(source: Uint16Array, target: Float32Array): void {
  const table = getFloat16Table();
  const words = wordsOf(target);
  for (let i = 0; i < source.length; i++) words[i] = table[source[i]];
}

/** target[i] = the value of bfloat16 bits source[i], exactly. `target` is at least as long as `source`. */
export function bfloat16ToFloat32(source: Uint16Array, target: Float32Array): void {
  const words = wordsOf(target);
  for (let i = 0; i < source.length; i++) words[i] = source[i] << 16;
}

/** Bits of the float16 nearest to a float32 given by its bits. */
function narrowToFloat16(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  // 65520 and above round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // 2^-14 and above are normal: drop 13 bits, with a carry that may reach the exponent.
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // 2^-25, half the smallest subnormal, is a tie that goes to zero.
  if (magnitude <= 0x33000000) return sign;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - (magnitude >>> 23);
  const isOdd = (mantissa >>> shift) & 1;
  return sign | ((mantissa + (1 << (shift - 1)) - 1 + isOdd) >>> shift);
}

/** target[i] = bits of the float16 nearest to source[i], ties to even; from 65520 on, infinity. `target` is at least as long as `source`. */
export function float32ToFloat16(source: Float32Array, target: Uint16Array): void {
  const words = wordsOf(source);
  for (let i = 0; i < words.length; i++) target[i] = narrowToFloat16(words[i]);
}

/** target[i] = bits of the bfloat16 nearest to source[i], ties to even. `target` is at least as long as `source`. */
export function float32ToBfloat16(source: Float32Array, target: Uint16Array): void {
  const words = wordsOf(source);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    const isNaN = (word & 0x7fffffff) > 0x7f800000;
    target[i] = isNaN ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
}
