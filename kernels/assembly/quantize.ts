// Quantising activations to 15 bits with one scale a token, for gemm-i8.ts. In TypeScript: src/ops/linear/quantize.ts.
import { nextItem } from "./runtime";

/** k is padded with zeros to a multiple of this: what one product of int16 pairs takes. */
export const QUANT_UNIT: i32 = 2;
/** Tokens of a tile of the packed activations. Mirrored in src/ops/linear/wasm.ts. */
export const TILE_TOKENS: i32 = 5;
/** Largest quantised magnitude. */
const LARGEST: f32 = 16383;
/** Below this largest magnitude a token counts as zeros: its reciprocal would overflow. */
const SMALLEST: f32 = 1e-30;
/** Added to a float32 below 2^22, this rounds it to an integer (half to even) that lies in the lowest bits. */
const ROUNDER: f32 = 12582912;

// @ts-ignore: decorator
@inline
export function paddedSteps(steps: i32): i32 {
  return (steps + QUANT_UNIT - 1) & -QUANT_UNIT;
}

/** Bytes of one tile of `tokens` tokens: [k / 2][token][2 x int16], then one float32 scale a token. */
// @ts-ignore: decorator
@inline
export function quantTileBytes(steps: i32, tokens: i32): i32 {
  return (paddedSteps(steps) * 2 + 4) * tokens;
}

/** args: x, xStride (elements), rows, steps, target: tiles of five tokens; missing tokens of the last stay undefined. */
export function quantizeRows(args: usize): void {
  const xBytes = <usize>load<u32>(args, 4) << 2;
  const rows = load<i32>(args, 8);
  const steps = load<i32>(args, 12);
  const tiles = (rows + TILE_TOKENS - 1) / TILE_TOKENS;
  for (let tile = nextItem(); tile < tiles; tile = nextItem()) {
    const target = <usize>load<u32>(args, 16) + <usize>(tile * quantTileBytes(steps, TILE_TOKENS));
    const row = tile * TILE_TOKENS;
    const count = min(TILE_TOKENS, rows - row);
    for (let token = 0; token < count; token++)
      quantizeToken(<usize>load<u32>(args) + <usize>(row + token) * xBytes, steps, target, token, TILE_TOKENS);
  }
}

/** Quantises one row of x into its place in a tile of `tokens` (5, or 1 for a product with a vector). NaN makes the scale NaN. */
export function quantizeToken(x: usize, steps: i32, tile: usize, token: i32, tokens: i32): void {
  const largest = largestMagnitude(x, steps);
  const isTiny = largest < SMALLEST;
  const inverse = f32x4.splat(isTiny ? 0 : LARGEST / largest);
  store<f32>(tile + <usize>((paddedSteps(steps) * tokens) << 1) + <usize>(token << 2), isTiny ? 0 : largest / LARGEST);
  const pairBytes = <usize>(tokens << 2);
  let target = tile + <usize>(token << 2);
  let k = 0;
  for (; k + 4 <= steps; k += 4, x += 16, target += 2 * pairBytes) {
    const four = quantizeFour(v128.load(x), inverse);
    v128.store32_lane(target, four, 0);
    v128.store32_lane(target + pairBytes, four, 1);
  }
  const rest = steps - k;
  if (rest == 0) return;
  const first = quantizeFour(rest > 1 ? v128.load64_zero(x) : v128.load32_zero(x), inverse);
  v128.store32_lane(target, first, 0);
  if (rest > 2) v128.store32_lane(target + pairBytes, quantizeFour(v128.load32_zero(x + 8), inverse), 0);
}

/** Four values as int16, in the low half. What is not a number becomes some int16. */
// @ts-ignore: decorator
@inline
function quantizeFour(x: v128, inverse: v128): v128 {
  const rounded = f32x4.add(f32x4.mul(x, inverse), f32x4.splat(ROUNDER));
  return v128.shuffle<i16>(rounded, rounded, 0, 2, 4, 6, 0, 2, 4, 6);
}

/** max |x|, compared as integers, which orders magnitudes rightly and puts NaN on top. */
function largestMagnitude(x: usize, count: i32): f32 {
  const mask = i32x4.splat(0x7fffffff);
  let most = i32x4.splat(0);
  let k = 0;
  for (; k + 4 <= count; k += 4, x += 16) most = i32x4.max_s(most, v128.and(v128.load(x), mask));
  let largest = max(
    max(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1)),
    max(i32x4.extract_lane(most, 2), i32x4.extract_lane(most, 3)),
  );
  for (; k < count; k++, x += 4) largest = max(largest, load<i32>(x) & 0x7fffffff);
  return reinterpret<f32>(largest);
}
