// The way back through the steps of a tile, and how the products for grad.B and grad.C are summed over channels: through
// workgroup memory in rounds of some steps, or by the lanes of a subgroup, which needs neither memory nor barriers.
import type { BackwardSpec } from "./webgpu-backward.ts";
import { loopEnd, repeat, unrolled } from "./webgpu-wgsl.ts";

/** Where element i of a tile's or round's sums belongs: by block of channels, row, B or C, state. */
const PARTIAL =
  "(group.x * params.batch * params.length + first_row + row) * 8u * STEP_VECTORS + i % (8u * STEP_VECTORS)";

/** By rounds: products of some steps to workgroup memory, a barrier, then every thread adds up one element. */
export function walkBackByRounds(spec: BackwardSpec): string {
  const { steps, round, unroll } = spec;
  const isUnrolled = unroll > 1;
  const oneRound = (r: string): string => /* wgsl */ `
${unrolled(isUnrolled, { count: round, name: "k", isReversed: true }, (k) => stepBack(spec, { inTile: `(${r} * ROUND + ${k})`, held: `(${r} * ROUND + ${k})` }, (v, toB, toC) => toMemory(k, v, toB, toC)))}
      workgroupBarrier();
      for (var i = thread; i < ROUND * 8u * STEP_VECTORS; i += THREADS) {
        // Step of the round, B or C, state: as they lie in memory.
        let at = (i / 4u) * ROW;
        let part = i % 4u;
        var sum = 0.0;
        for (var k = 0u; k < ${loopEnd(isUnrolled, "CHANNELS")}; k++) { sum += products[at + k][part]; }
        let row = tile + ${r} * ROUND + i / (8u * STEP_VECTORS);
        if (row < end_step) { partials[${PARTIAL}] = sum; }
      }
      workgroupBarrier();`;
  return unrolled(isUnrolled, { count: steps / round, name: "r", isReversed: true }, oneRound);
}

/** By lanes: eight sums a step and vector of states, each left in some lanes. From step `base` of the tile on. */
export function walkBackByLanes(spec: BackwardSpec): string {
  const steps = { count: spec.sub, name: "i", isReversed: true };
  return unrolled(spec.unroll > 1, steps, (i) =>
    stepBack(spec, { inTile: `(base + ${i})`, held: i }, (v, toB, toC) => toLanes(`(base + ${i})`, v, toB, toC)),
  );
}

/** The sums of {@link walkBackByLanes} of a tile, from workgroup memory to where they belong. */
export const FLUSH_LANE_SUMS: string = /* wgsl */ `
      for (var i = thread; i < STEPS * 8u * STEP_VECTORS; i += THREADS) {
        let row = tile + i / (8u * STEP_VECTORS);
        if (row < end_step) { partials[${PARTIAL}] = tile_sums[i]; }
      }`;

function toMemory(k: string, v: number, toB: string, toC: string): string {
  return /* wgsl */ `
        products[(${k} * 2u * STEP_VECTORS + state_thread * VECTORS + ${v}u) * ROW + c] = ${toB};
        products[((${k} * 2u + 1u) * STEP_VECTORS + state_thread * VECTORS + ${v}u) * ROW + c] = ${toC};`;
}

function toLanes(i: string, v: number, toB: string, toC: string): string {
  return /* wgsl */ `
        let sum${v} = sum_over_lanes(${toB}, ${toC}, lane);
        if (lane < 8u) {
          tile_sums[(${i} * 2u + lane % 2u) * 4u * STEP_VECTORS + (state_thread * VECTORS + ${v}u) * 4u + (lane & 2u) + lane / 4u] = sum${v};
        }`;
}

/** A step: which it is in its tile, and which among those whose states the thread holds. */
interface StepIndex {
  readonly inTile: string;
  readonly held: string;
}

/** Back through a step. `keep` takes the products of a vector of states for grad.B and for grad.C. */
function stepBack(
  spec: BackwardSpec,
  { inTile, held }: StepIndex,
  keep: (v: number, toB: string, toC: string) => string,
): string {
  const { vectors } = spec;
  const sum = (what: (v: number) => string): string => repeat(vectors, (v) => `${v > 0 ? " + " : ""}${what(v)}`);
  const vector = (v: number): string => /* wgsl */ `
        let g${v} = q${v} + o * tile_C[at + ${v}u];
        ${keep(v, `dt.y * g${v}`, `o * states${v}[${held} + 1u]`)}
        q${v} = decays${v}[${held}] * g${v};
        let qh${v} = q${v} * states${v}[${held}];
        A_sum${v} += dt.x * qh${v};`;
  return /* wgsl */ `
      {
        let dt = tile_dt[${inTile} * ROW + c];
        let o = tile_o[${inTile} * ROW + c];
        let at = ${inTile} * STEP_VECTORS + state_thread * VECTORS;
${repeat(vectors, vector)}
        let part = (state_thread * STEPS + ${inTile}) * ROW + c;
        tile_gB[part] = ${sum((v) => `dot(g${v}, tile_B[at + ${v}u])`)};
        tile_Aqh[part] = ${sum((v) => `dot(qh${v}, a${v})`)};
      }`;
}

/**
 * `sum_over_lanes(to_B, to_C, lane)`: eight sums over the lanes of a subgroup. Each exchange halves what a lane still
 * carries: 4 + 2 + 1 exchanges instead of 8 for each halving of the lanes. Lane l ends with the sum of matrix l % 2 (B,
 * C) and state 2 (l / 2 % 2) + l / 4 % 2.
 */
export function sumOverLanes(lanes: number): string {
  const rest = [8, 16, 32, 64].filter((mask) => mask < lanes);
  return /* wgsl */ `
fn sum_over_lanes(to_B: vec4f, to_C: vec4f, lane: u32) -> f32 {
  let is_C = (lane & 1u) != 0u;
  let four = select(to_B, to_C, is_C) + subgroupShuffleXor(select(to_C, to_B, is_C), 1u);
  let is_upper = (lane & 2u) != 0u;
  let two = select(four.xy, four.zw, is_upper) + subgroupShuffleXor(select(four.zw, four.xy, is_upper), 2u);
  let is_second = (lane & 4u) != 0u;
  var sum = select(two.x, two.y, is_second) + subgroupShuffleXor(select(two.y, two.x, is_second), 4u);
${repeat(rest.length, (i) => `  sum += subgroupShuffleXor(sum, ${rest[i]}u);\n`)}  return sum;
}`;
}
