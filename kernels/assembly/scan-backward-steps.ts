// The scan's backward pass for one channel over the steps of a chunk, lanes over states: the states again from the start
// of the chunk, then the adjoint recurrence from its end. Formulas in src/ops/selective-scan/README.md.
import { fma } from "./math";

/**
 * h = decay h + dtx B again, keeping each step's state before it; and gradC += gradOut h.
 * @param before rows of `states` elements, written   @param gradOut the gradient of C h, 16 bytes a step
 * @param partial 4 lanes a step, whose sum is C h
 */
export function recompute(
  count: i32, states: i32, h: usize, dtx: usize, gradOut: usize, decay: usize, B: usize, C: usize, before: usize, gradC: usize, partial: usize,
): void {
  if (states == 16) return recomputeVectors(4, false, count, h, dtx, gradOut, decay, B, C, before, gradC, 64, partial);
  memory.fill(partial, 0, (<usize>count) << 4);
  const row = <usize>states << 2;
  for (let state: usize = 0; state < row; ) {
    const isFour = row - state >= 64;
    if (isFour) recomputeVectors(4, true, count, h + state, dtx, gradOut, decay + state, B + state, C + state, before + state, gradC + state, row, partial);
    else recomputeVectors(1, true, count, h + state, dtx, gradOut, decay + state, B + state, C + state, before + state, gradC + state, row, partial);
    state += isFour ? 64 : 16;
  }
}

// @ts-ignore: decorator
@inline
function recomputeVectors(
  vectors: i32, adds: bool, count: i32, h: usize, dtx: usize, gradOut: usize,
  decay: usize, B: usize, C: usize, before: usize, gradC: usize, row: usize, partial: usize,
): void {
  let h0 = v128.load(h);
  let h1 = vectors > 1 ? v128.load(h, 16) : h0;
  let h2 = vectors > 1 ? v128.load(h, 32) : h0;
  let h3 = vectors > 1 ? v128.load(h, 48) : h0;
  const end = partial + ((<usize>count) << 4);
  while (partial < end) {
    const u = v128.load32_splat(dtx);
    const g = v128.load32_splat(gradOut);
    v128.store(before, h0);
    h0 = fma(v128.load(decay), h0, f32x4.mul(u, v128.load(B)));
    v128.store(gradC, fma(g, h0, v128.load(gradC)));
    let y = f32x4.mul(h0, v128.load(C));
    if (vectors > 1) {
      v128.store(before, h1, 16);
      h1 = fma(v128.load(decay, 16), h1, f32x4.mul(u, v128.load(B, 16)));
      v128.store(gradC, fma(g, h1, v128.load(gradC, 16)), 16);
      v128.store(before, h2, 32);
      h2 = fma(v128.load(decay, 32), h2, f32x4.mul(u, v128.load(B, 32)));
      v128.store(gradC, fma(g, h2, v128.load(gradC, 32)), 32);
      v128.store(before, h3, 48);
      h3 = fma(v128.load(decay, 48), h3, f32x4.mul(u, v128.load(B, 48)));
      v128.store(gradC, fma(g, h3, v128.load(gradC, 48)), 48);
      y = f32x4.add(fma(h1, v128.load(C, 16), y), fma(h3, v128.load(C, 48), f32x4.mul(h2, v128.load(C, 32))));
    }
    if (adds) y = f32x4.add(y, v128.load(partial));
    v128.store(partial, y);
    dtx += 16;
    gradOut += 16;
    before += row;
    decay += row;
    B += row;
    C += row;
    gradC += row;
    partial += 16;
  }
  v128.store(h, h0);
  if (vectors > 1) {
    v128.store(h, h1, 16);
    v128.store(h, h2, 32);
    v128.store(h, h3, 48);
  }
}

/**
 * From the last step to the first: g = gradOut C + adjoint; gradB += g dtx; adjoint = decay g; gradA += adjoint before dt.
 * @param adjoint the gradient of the state after the last step, then of that before the first
 * @param partialB, partialA 4 lanes a step, whose sums are g B and adjoint before A
 */
export function reverse(
  count: i32, states: i32, A: usize, adjoint: usize, gradA: usize, dt: usize, dtx: usize, gradOut: usize,
  decay: usize, B: usize, C: usize, before: usize, gradB: usize, partialB: usize, partialA: usize,
): void {
  const last = <usize>(count - 1);
  const row = <usize>states << 2;
  dt += last << 4;
  dtx += last << 4;
  gradOut += last << 4;
  decay += last * row;
  B += last * row;
  C += last * row;
  before += last * row;
  gradB += last * row;
  partialB += last << 4;
  partialA += last << 4;
  if (states == 16) return reverseVectors(4, false, count, A, adjoint, gradA, dt, dtx, gradOut, decay, B, C, before, gradB, 64, partialB, partialA);
  memory.fill(partialB - (last << 4), 0, (<usize>count) << 4);
  memory.fill(partialA - (last << 4), 0, (<usize>count) << 4);
  for (let state: usize = 0; state < row; ) {
    const isFour = row - state >= 64;
    if (isFour) reverseVectors(
      4, true, count, A + state, adjoint + state, gradA + state, dt, dtx, gradOut,
      decay + state, B + state, C + state, before + state, gradB + state, row, partialB, partialA,
    );
    else reverseVectors(
      1, true, count, A + state, adjoint + state, gradA + state, dt, dtx, gradOut,
      decay + state, B + state, C + state, before + state, gradB + state, row, partialB, partialA,
    );
    state += isFour ? 64 : 16;
  }
}

/** Longer than a function should be, because four vectors are written out: AssemblyScript has no arrays in registers. */
// @ts-ignore: decorator
@inline
function reverseVectors(
  vectors: i32, adds: bool, count: i32, A: usize, adjoint: usize, gradA: usize, dt: usize, dtx: usize, gradOut: usize,
  decay: usize, B: usize, C: usize, before: usize, gradB: usize, row: usize, partialB: usize, partialA: usize,
): void {
  const a0 = v128.load(A);
  const a1 = vectors > 1 ? v128.load(A, 16) : a0;
  const a2 = vectors > 1 ? v128.load(A, 32) : a0;
  const a3 = vectors > 1 ? v128.load(A, 48) : a0;
  let q0 = v128.load(adjoint), s0 = v128.load(gradA);
  let q1 = vectors > 1 ? v128.load(adjoint, 16) : q0, s1 = vectors > 1 ? v128.load(gradA, 16) : s0;
  let q2 = vectors > 1 ? v128.load(adjoint, 32) : q0, s2 = vectors > 1 ? v128.load(gradA, 32) : s0;
  let q3 = vectors > 1 ? v128.load(adjoint, 48) : q0, s3 = vectors > 1 ? v128.load(gradA, 48) : s0;
  for (; count > 0; count--) {
    const d = v128.load32_splat(dt);
    const u = v128.load32_splat(dtx);
    const o = v128.load32_splat(gradOut);
    let g = fma(o, v128.load(C), q0);
    let sumB = f32x4.mul(g, v128.load(B));
    v128.store(gradB, fma(g, u, v128.load(gradB)));
    q0 = f32x4.mul(g, v128.load(decay));
    let p = f32x4.mul(q0, v128.load(before));
    let sumA = f32x4.mul(p, a0);
    s0 = fma(p, d, s0);
    if (vectors > 1) {
      g = fma(o, v128.load(C, 16), q1);
      sumB = fma(g, v128.load(B, 16), sumB);
      v128.store(gradB, fma(g, u, v128.load(gradB, 16)), 16);
      q1 = f32x4.mul(g, v128.load(decay, 16));
      p = f32x4.mul(q1, v128.load(before, 16));
      sumA = fma(p, a1, sumA);
      s1 = fma(p, d, s1);
      g = fma(o, v128.load(C, 32), q2);
      sumB = fma(g, v128.load(B, 32), sumB);
      v128.store(gradB, fma(g, u, v128.load(gradB, 32)), 32);
      q2 = f32x4.mul(g, v128.load(decay, 32));
      p = f32x4.mul(q2, v128.load(before, 32));
      sumA = fma(p, a2, sumA);
      s2 = fma(p, d, s2);
      g = fma(o, v128.load(C, 48), q3);
      sumB = fma(g, v128.load(B, 48), sumB);
      v128.store(gradB, fma(g, u, v128.load(gradB, 48)), 48);
      q3 = f32x4.mul(g, v128.load(decay, 48));
      p = f32x4.mul(q3, v128.load(before, 48));
      sumA = fma(p, a3, sumA);
      s3 = fma(p, d, s3);
    }
    if (adds) {
      sumB = f32x4.add(sumB, v128.load(partialB));
      sumA = f32x4.add(sumA, v128.load(partialA));
    }
    v128.store(partialB, sumB);
    v128.store(partialA, sumA);
    dt -= 16;
    dtx -= 16;
    gradOut -= 16;
    decay -= row;
    B -= row;
    C -= row;
    before -= row;
    gradB -= row;
    partialB -= 16;
    partialA -= 16;
  }
  v128.store(adjoint, q0);
  v128.store(gradA, s0);
  if (vectors > 1) {
    v128.store(adjoint, q1, 16);
    v128.store(gradA, s1, 16);
    v128.store(adjoint, q2, 32);
    v128.store(gradA, s2, 32);
    v128.store(adjoint, q3, 48);
    v128.store(gradA, s3, 48);
  }
}
