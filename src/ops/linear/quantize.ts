// The int8 arithmetic in plain TypeScript: what the kernels quantize.ts, pack-i8.ts and gemm-i8.ts must give, bit by bit.

/** Values along the inputs that share one scale of x. Mirrors kernels/assembly/quantize.ts. */
export const QUANT_BLOCK = 128;
/** Inputs are padded with zeros to a multiple of this. */
export const QUANT_UNIT = 8;

const LARGEST_WEIGHT = 127;
const LARGEST_X = 63;
/** Below this largest magnitude a block of x, or a row of weights, counts as zeros: its reciprocal would overflow. */
const SMALLEST_X = Math.fround(1e-30);
const SMALLEST_SCALE = Math.fround(1e-36);
/** See {@link quantizeWeightRow}. */
const GROUP_LIMIT = 256;

const { fround } = Math;

/** Whole numbers in float32 and what one of them stands for. */
export interface Quantized {
  readonly values: Int8Array;
  /** One scale (a row of weights), or one a block (x). */
  readonly scales: Float32Array;
}

/**
 * A row of weights as -127..127 with one scale, the least for which (1) every value fits, and (2) in each group of four
 * inputs 8g + {0,1,4,5} and 8g + {2,3,6,7} neither the positive nor the negative values sum to more than 258, so that
 * the kernel may add four products with x (at most 127) in int16: 258 * 127 < 2^15. (256, because rounding adds up to 2.)
 */
export function quantizeWeightRow(row: Float32Array): Quantized {
  const padded = padInputs(row);
  let largest = 0;
  let largestGroup = 0;
  for (let k = 0; k < padded.length; k++) largest = Math.max(largest, Math.abs(padded[k]));
  for (let k = 0; k < padded.length; k += QUANT_UNIT)
    for (const at of [k, k + 2])
      for (const sign of [1, -1]) {
        const part = (i: number): number => Math.max(sign * padded[at + i], 0);
        const group = fround(fround(part(0) + part(4)) + fround(part(1) + part(5)));
        largestGroup = Math.max(largestGroup, group);
      }
  const scale = Math.max(fround(largest / LARGEST_WEIGHT), fround(largestGroup / GROUP_LIMIT));
  const inverse = scale >= SMALLEST_SCALE ? fround(1 / scale) : 0;
  const values = Int8Array.from(padded, (value) => roundHalfToEven(fround(value * inverse)));
  return { values, scales: Float32Array.of(scale < SMALLEST_SCALE ? 0 : scale) };
}

/** A row of x as -63..63, one scale a block. NaN makes its block's scale NaN. */
export function quantizeInputs(row: Float32Array): Quantized {
  const padded = padInputs(row);
  const scales = new Float32Array(Math.ceil(row.length / QUANT_BLOCK));
  const values = new Int8Array(padded.length);
  for (let block = 0; block < scales.length; block++) {
    const start = block * QUANT_BLOCK;
    const end = Math.min(padded.length, start + QUANT_BLOCK);
    let largest = 0;
    for (let k = start; k < end; k++) largest = Math.max(largest, Math.abs(padded[k]));
    const isTiny = largest < SMALLEST_X;
    const inverse = isTiny ? 0 : fround(LARGEST_X / largest);
    scales[block] = isTiny ? 0 : largest / LARGEST_X;
    for (let k = start; k < end; k++) values[k] = roundHalfToEven(fround(padded[k] * inverse));
  }
  return { values, scales };
}

/** One element of y = x Wᵀ + bias: exact integer sums by blocks, then float32. */
export function dotQuantized(x: Quantized, weight: Quantized, bias: number | undefined): number {
  let sum = 0;
  for (let block = 0; block < x.scales.length; block++) {
    const end = Math.min(x.values.length, (block + 1) * QUANT_BLOCK);
    let whole = 0;
    for (let k = block * QUANT_BLOCK; k < end; k++) whole += x.values[k] * weight.values[k];
    sum = fround(sum + fround(whole * x.scales[block]));
  }
  const scaled = fround(sum * weight.scales[0]);
  return bias === undefined ? scaled : fround(scaled + fround(bias));
}

function padInputs(row: Float32Array): Float32Array {
  const padded = new Float32Array(Math.ceil(row.length / QUANT_UNIT) * QUANT_UNIT);
  padded.set(row);
  return padded;
}

/** As IEEE 754 rounds to a whole number. NaN gives 0, as a WASM conversion that saturates does. */
function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return (rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded) || 0;
}
