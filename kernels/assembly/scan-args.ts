// The arguments of the scan's kernels, as JavaScript writes them (src/ops/selective-scan/wasm.ts), and their addresses.
// An address of 0 stands for an input that is not there. Strides count float32 elements from one row to the next.

/** Steps between two states that the forward pass saves, and that the kernels work on at a time. */
export const CHUNK: i32 = 64;

/** Arguments of the forward kernel. The backward kernel has the same, and then its own. */
@unmanaged
export class ScanArgs {
  xAddress: u32;
  xStride: u32;
  dtAddress: u32;
  dtStride: u32;
  AAddress: u32;
  AStride: u32;
  BAddress: u32;
  BStride: u32;
  CAddress: u32;
  CStride: u32;
  D: u32;
  dtBias: u32;
  zAddress: u32;
  zStride: u32;
  initialAddress: u32;
  initialStride: u32;
  startsAddress: u32;
  startsStride: u32;
  chunkStarts: u32;
  batch: i32;
  length: i32;
  dInner: i32;
  dState: i32;
  groups: i32;
  softplus: i32;
  yAddress: u32;
  yStride: u32;
  finalAddress: u32;
  finalStride: u32;
}

/** Address of element (row, column). */
// @ts-ignore: decorator
@inline
export function at(address: u32, stride: u32, row: i32, column: i32): usize {
  return <usize>address + ((<usize>row * stride + <usize>column) << 2);
}

/** dState rounded up to whole vectors. */
// @ts-ignore: decorator
@inline
export function paddedStates(dState: i32): i32 {
  return (dState + 3) & ~3;
}

/** The first 1 to 4 lanes from memory, zeros behind them. */
// @ts-ignore: decorator
@inline
export function loadLanes(address: usize, count: i32): v128 {
  return count >= 4 ? v128.load(address) : loadFew(address, count);
}

function loadFew(address: usize, count: i32): v128 {
  if (count == 1) return v128.load32_zero(address);
  const two = v128.load64_zero(address);
  return count == 2 ? two : v128.load_lane<f32>(address + 8, two, 2);
}

/** Writes the first 1 to 4 lanes. */
// @ts-ignore: decorator
@inline
export function storeLanes(address: usize, value: v128, count: i32): void {
  if (count >= 4) v128.store(address, value);
  else storeFew(address, value, count);
}

function storeFew(address: usize, value: v128, count: i32): void {
  v128.store_lane<f32>(address, value, 0);
  if (count > 1) v128.store_lane<f32>(address + 4, value, 1);
  if (count > 2) v128.store_lane<f32>(address + 8, value, 2);
}

/** The sums of four vectors' lanes: lane i is that of the i-th argument, (0 + 1) + (2 + 3). */
// @ts-ignore: decorator
@inline
export function sumsOf(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 2, 4, 6), v128.shuffle<f32>(a, b, 1, 3, 5, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 2, 4, 6), v128.shuffle<f32>(c, d, 1, 3, 5, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 2, 4, 6), v128.shuffle<f32>(ab, cd, 1, 3, 5, 7));
}

/** Copies `rows` rows of `columns` elements into rows of `padded` elements, zeros behind. */
export function packRows(from: usize, stride: u32, to: usize, rows: i32, columns: i32, padded: i32): void {
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < padded; column += 4)
      v128.store(to + ((<usize>column) << 2), loadLanes(from + ((<usize>column) << 2), columns - column));
    from += <usize>stride << 2;
    to += <usize>padded << 2;
  }
}

/** The way back: rows of `padded` elements to rows of `columns`. */
export function unpackRows(from: usize, padded: i32, to: usize, stride: u32, rows: i32, columns: i32): void {
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += 4)
      storeLanes(to + ((<usize>column) << 2), v128.load(from + ((<usize>column) << 2)), columns - column);
    from += <usize>padded << 2;
    to += <usize>stride << 2;
  }
}

/** The largest |element| of a row of whole vectors. */
export function largest(row: usize, count: i32): f32 {
  let most = f32x4.splat(0);
  for (const end = row + ((<usize>count) << 2); row < end; row += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(row)));
  return max(max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)), max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)));
}

/** Arguments of the backward kernels: those of the forward one, gradients (0: not wanted, or not there), workspace. */
@unmanaged
export class ScanBackwardArgs extends ScanArgs {
  gradYAddress: u32;
  gradYStride: u32;
  gradFinalAddress: u32;
  gradFinalStride: u32;
  gradXAddress: u32;
  gradXStride: u32;
  gradDtAddress: u32;
  gradDtStride: u32;
  gradAAddress: u32;
  gradAStride: u32;
  gradBAddress: u32;
  gradBStride: u32;
  gradCAddress: u32;
  gradCStride: u32;
  gradD: u32;
  gradDtBias: u32;
  gradZAddress: u32;
  gradZStride: u32;
  gradInitialAddress: u32;
  gradInitialStride: u32;
  /** Shares of a group's channels, each with its own sums for B and C. */
  shares: i32;
  /** [shares, batch * length, 2 * groups * dState]: gradB and gradC of each share. */
  sumsBC: u32;
  /** [batch, dInner, 2 * padded states + 4]: of each channel the adjoint of its state, gradA, gradD, gradDtBias. */
  sumsOfChannels: u32;
}
