// The int8 arithmetic in plain TypeScript: what the kernels quantize.ts, pack-i8.ts and gemm-i8.ts give, bit by bit.

/** Inputs are padded with zeros to a multiple of this. Mirrors kernels/assembly/quantize.ts. */
export const QUANT_UNIT = 2;
/** Inputs whose products are added as integers; beyond, in float32. Mirrors kernels/assembly/gemm-i8.ts. */
const INTEGER_BLOCK = 1024;

const LARGEST_WEIGHT = 127;
const LARGEST_X = 16383;
/** Below this a row of weights (its scale), or of x (its largest magnitude) counts as zeros: its reciprocal would overflow. */
const SMALLEST_SCALE = Math.fround(1e-36);
const SMALLEST_X = Math.fround(1e-30);

const { fround } = Math;

/** A row of numbers as whole numbers (padded), and what one of them stands for. */
export interface Quantized {
  readonly values: Int8Array | Int16Array;
  readonly scale: number;
}

/** A row of weights as -127..127. */
export function quantizeWeightRow(row: Float32Array): Quantized & { readonly values: Int8Array } {
  const scale = fround(largestMagnitude(row) / LARGEST_WEIGHT);
  const isTiny = scale < SMALLEST_SCALE;
  const inverse = isTiny ? 0 : fround(1 / scale);
  const values = new Int8Array(paddedInputs(row.length));
  row.forEach((value, i) => (values[i] = roundHalfToEven(fround(value * inverse))));
  return { values, scale: isTiny ? 0 : scale };
}

/** A row of x as -16383..16383. NaN makes the scale NaN. */
export function quantizeInputs(row: Float32Array): Quantized {
  const largest = largestMagnitude(row);
  const isTiny = largest < SMALLEST_X;
  const inverse = isTiny ? 0 : fround(LARGEST_X / largest);
  const values = new Int16Array(paddedInputs(row.length));
  row.forEach((value, i) => (values[i] = roundHalfToEven(fround(value * inverse))));
  return { values, scale: isTiny ? 0 : fround(largest / LARGEST_X) };
}

/** One element of y = x Wᵀ + bias: exact integers, then float32 in this order. */
export function dotQuantized(x: Quantized, weight: Quantized, bias: number | undefined): number {
  let sum = 0;
  for (let start = 0; start < x.values.length; start += INTEGER_BLOCK) {
    const end = Math.min(x.values.length, start + INTEGER_BLOCK);
    let whole = 0;
    for (let k = start; k < end; k++) whole += x.values[k] * weight.values[k];
    sum = fround(sum + fround(whole));
  }
  const scaled = fround(fround(sum * x.scale) * weight.scale);
  return bias === undefined ? scaled : fround(scaled + fround(bias));
}

export function paddedInputs(count: number): number {
  return Math.ceil(count / QUANT_UNIT) * QUANT_UNIT;
}

function largestMagnitude(row: Float32Array): number {
  return row.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

/** As IEEE 754 rounds to a whole number. NaN gives 0. */
function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return (rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded) || 0;
}
