// The kernel of sampleTokens: one workgroup a row of logits.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";

export type SampleSpec = {
  /** Of a workgroup, a power of 2. */
  readonly threads: number;
  readonly penalty: boolean;
};

/** The largest score, the lowest id among equals. */
export const sampleGreedy: KernelFamily<SampleSpec> = defineKernel(
  "sampleGreedy",
  [
    { threads: 256, penalty: false },
    { threads: 256, penalty: true },
  ],
  (spec) => ({
    buffers: sampleBuffers(spec),
    params: ["count", "slots", "penalty: f32"],
    body: /* wgsl */ `${scoreText(spec)}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.x;
  let best = find_best(row, thread);
  if (thread == 0u) { give(row, best.id, best); }
}`,
  }),
);

/** Buffers of every kernel that chooses tokens. */
export function sampleBuffers({ penalty }: SampleSpec): Record<string, `${"read" | "write" | "add"} ${string}`> {
  return {
    logits: "read u32",
    // Of each row: its seed in two words, and how many tokens were chosen.
    draws: "add u32",
    ...(penalty ? { seen: "add atomic<u32>" as const } : {}),
    tokens: "write i32",
    ring: "add i32",
  };
}

/** Scores as words that rise with them, the best of a row, and where a choice goes. */
export function scoreText({ threads, penalty }: SampleSpec): string {
  return `const THREADS = ${threads}u;
${ORDER}
${penalty ? PENALISED : PLAIN}
${BEST}
${giving(penalty)}`;
}

const ORDER = /* wgsl */ `
const NONE = 0xffffffffu;
/** The order of -Infinity. */
const LEAST_ORDER = 0x007fffffu;

struct Best {
  order: u32,
  id: u32,
  /** The first id whose logit is no number. */
  bad: u32,
}

var<workgroup> bests: array<Best, THREADS>;

fn is_nan(bits: u32) -> bool { return (bits & 0x7fffffffu) > 0x7f800000u; }

/** Bits of a float as a word that rises with it; both zeros are one. */
fn order_of(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) == 0u) { return 0x80000000u; }
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn float_of(order: u32) -> f32 {
  return bitcast<f32>(select(~order, order & 0x7fffffffu, (order >> 31u) == 1u));
}
`;

const BEST = /* wgsl */ `
fn better(a: Best, b: Best) -> Best {
  var best = a;
  if (b.order > a.order || (b.order == a.order && b.id < a.id)) { best = b; }
  best.bad = min(a.bad, b.bad);
  return best;
}

fn find_best(row: u32, thread: u32) -> Best {
  var own = Best(0u, NONE, NONE);
  for (var id = thread; id < params.count; id += THREADS) {
    let bits = score(row, id);
    if (is_nan(bits)) {
      own.bad = min(own.bad, id);
    } else {
      own = better(own, Best(order_of(bits), id, NONE));
    }
  }
  bests[thread] = own;
  workgroupBarrier();
  for (var half = THREADS / 2u; half > 0u; half /= 2u) {
    if (thread < half) { bests[thread] = better(bests[thread], bests[thread + half]); }
    workgroupBarrier();
  }
  return bests[0];
}
`;

/**
 * `give(row, id, best)`: the choice becomes the next token to be read, and goes into the ring; there a negative number says
 * what was wrong: -1 that all scores are -Infinity, -2 - id that the logit of id is no number.
 */
function giving(penalty: boolean): string {
  const mark = /* wgsl */ `
  if (told >= 0) {
    atomicOr(&seen[params.seen_at + row * params.seen_stride + id / 32u], 1u << (id % 32u));
  }`;
  return /* wgsl */ `
fn give(row: u32, id: u32, best: Best) {
  var told = i32(id);
  if (best.order <= LEAST_ORDER) { told = -1; }
  if (best.bad != NONE) { told = -2 - i32(best.bad); }
  let position = draws[params.draws_at + row * params.draws_stride + 2u];
  draws[params.draws_at + row * params.draws_stride + 2u] = position + 1u;
  tokens[params.tokens_at + row * params.tokens_stride] = max(told, 0);
  ring[params.ring_at + (position % params.slots) * params.ring_stride + row] = told;
${penalty ? mark : ""}
}`;
}

const PLAIN = /* wgsl */ `
fn score(row: u32, id: u32) -> u32 { return logits[params.logits_at + row * params.logits_stride + id]; }`;

const PENALISED = /* wgsl */ `
fn score(row: u32, id: u32) -> u32 {
  let bits = logits[params.logits_at + row * params.logits_stride + id];
  let word = atomicLoad(&seen[params.seen_at + row * params.seen_stride + id / 32u]);
  if (((word >> (id % 32u)) & 1u) == 0u || is_nan(bits)) { return bits; }
  let value = bitcast<f32>(bits);
  return bitcast<u32>(select(value / params.penalty, value * params.penalty, value < 0.0));
}`;
