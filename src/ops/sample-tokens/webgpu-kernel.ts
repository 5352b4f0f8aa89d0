// The kernels of sampleTokens: one workgroup a row of logits. Greedy in one sweep; else cuts (webgpu-cut.ts), then a draw.
import type { BufferUse, KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { quadType } from "../selective-scan/webgpu-wgsl.ts";
import { BINS, CROSSING, cutText, FIXED_POINT, PHILOX } from "./webgpu-cut.ts";

export type SampleSpec = {
  /** Of a workgroup, a power of 2. */
  readonly threads: number;
  readonly penalty: boolean;
  /** Whether logits may be read four at a time. */
  readonly wide: boolean;
};

const GREEDY_SAMPLE: SampleSpec = { threads: 256, penalty: false, wide: true };

/** The largest score, the lowest id among equals. */
export const sampleGreedy: KernelFamily<SampleSpec> = defineKernel<SampleSpec>(
  "sampleGreedy",
  [GREEDY_SAMPLE, { threads: 256, penalty: true, wide: false }],
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

export type DrawSpec = SampleSpec & {
  /** Candidates that are ranked one against another. */
  readonly listed: number;
};

/** A draw among the scores that top-k, top-p and min-p leave. */
export const sampleDraw: KernelFamily<DrawSpec> = defineKernel<DrawSpec>(
  "sampleDraw",
  [
    { ...GREEDY_SAMPLE, listed: 128 },
    { ...GREEDY_SAMPLE, penalty: true, wide: false, listed: 128 },
  ],
  (spec) => ({
    buffers: sampleBuffers(spec),
    params: ["count", "slots", "penalty: f32", "temperature: f32", "top_k", "top_p_bits", "min_p: f32"],
    body: /* wgsl */ `${scoreText(spec)}${FIXED_POINT}${PHILOX}
const LISTED = ${spec.listed}u;
const BINS = ${BINS}u;
/** Sums by bin, or by thread, in two words each. */
var<workgroup> low_words: array<atomic<u32>, BINS>;
var<workgroup> high_words: array<atomic<u32>, BINS>;
${CROSSING}
/** exp((score - best) / temperature): 1 for the best, even if it is infinite. */
fn weight_of(order: u32, best: Best) -> f32 {
  if (order == best.order) { return 1.0; }
  return exp(max((float_of(order) - float_of(best.order)) / params.temperature, -80.0));
}
${cutText(sweep)}
@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.x;
  let best = find_best(row, thread);
  var cut = Place(0u, NONE);
  // First top-k, then top-p; 0 is off.
  for (var i = 0u; i < 2u; i++) {
    let by_weight = i == 1u;
    if (select(params.top_k, params.top_p_bits, by_weight) > 0u) {
      cut = find_cut(row, thread, best, cut, by_weight);
    }
  }
${DRAW}
}`,
  }),
);

/** Each thread sums its weights; the thread where the draw falls finds the id. */
const DRAW = /* wgsl */ `
  var own = vec2u();
${sweep(/* wgsl */ `
      let weight = weight_of(order, best);
      if (is_within(order, id, cut) && weight >= params.min_p) { own = add_wide(own, fixed(weight)); }`)}
  clear_words(thread);
  workgroupBarrier();
  atomicStore(&low_words[thread], own.x);
  atomicStore(&high_words[thread], own.y);
  let total = sum_of_words(thread);
  let draws_at = params.draws_at + row * params.draws_stride;
  let random = philox(vec4u(draws[draws_at + 2u], 0u, 0u, 0u), vec2u(draws[draws_at], draws[draws_at + 1u]));
  let goal = multiply_high(total, random.xy);
  // The first whose sum is above the draw.
  let crossing = find_crossing(thread, add_wide(goal, vec2u(1u, 0u)));
  workgroupBarrier();
  // Without any weight (logits that are no numbers) nothing is crossed.
  if (thread == min(crossing.place, THREADS - 1u)) {
    var sum = crossing.before;
    var chosen = NONE;
${sweep(/* wgsl */ `
        let weight = weight_of(order, best);
        if (chosen == NONE && is_within(order, id, cut) && weight >= params.min_p) {
          sum = add_wide(sum, fixed(weight));
          if (is_less(goal, sum)) { chosen = id; }
        }`)}
    give(row, chosen, best);
  }`;

/** Buffers of every kernel that chooses tokens. */
function sampleBuffers({ penalty, wide }: SampleSpec): Record<string, BufferUse> {
  return {
    logits: `read ${quadType("u32", wide)}`,
    // Of each row: its seed in two words, and how many tokens were chosen.
    draws: "add u32",
    ...(penalty ? { seen: "add atomic<u32>" as const } : {}),
    tokens: "write i32",
    ring: "add i32",
  };
}

/** Scores as words that rise with them, the best of a row, and where a choice goes. */
function scoreText({ threads, penalty, wide }: SampleSpec): string {
  return `const THREADS = ${threads}u;
${ORDER}
${wide ? READ_WIDE : READ_NARROW}
${penalty ? PENALISED : PLAIN}
${BEST}
${giving(penalty)}`;
}

/** `text` once for each id of this thread, with its `bits` (the score) and `order`. Always in the same sequence. */
function sweep(text: string): string {
  return /* wgsl */ `
  for (var first = 4u * thread; first < params.count; first += 4u * THREADS) {
    let four = read_four(row, first);
    for (var i = 0u; i < 4u; i++) {
      let id = first + i;
      if (id >= params.count) { break; }
      let bits = score(row, id, four[i]);
      let order = order_of(bits);
${text}
    }
  }`;
}

const ORDER = /* wgsl */ `
const NONE = 0xffffffffu;
/** The order of -Infinity. */
const LEAST_ORDER = 0x007fffffu;

/** A place in the sequence of scores, largest first, equal ones by id. */
struct Place {
  order: u32,
  id: u32,
}

struct Best {
  order: u32,
  id: u32,
  /** The least order above that of -Infinity. */
  least: u32,
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

fn is_within(order: u32, id: u32, cut: Place) -> bool {
  return order > cut.order || (order == cut.order && id <= cut.id);
}
`;

const BEST = /* wgsl */ `
fn better(a: Best, b: Best) -> Best {
  var best = a;
  if (b.order > a.order || (b.order == a.order && b.id < a.id)) {
    best.order = b.order;
    best.id = b.id;
  }
  best.least = min(a.least, b.least);
  best.bad = min(a.bad, b.bad);
  return best;
}

fn find_best(row: u32, thread: u32) -> Best {
  var own = Best(0u, NONE, NONE, NONE);
${sweep(/* wgsl */ `
      if (is_nan(bits)) {
        own.bad = min(own.bad, id);
      } else {
        own = better(own, Best(order, id, select(NONE, order, order > LEAST_ORDER), NONE));
      }`)}
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
  let draws_at = params.draws_at + row * params.draws_stride + 2u;
  let position = draws[draws_at];
  draws[draws_at] = position + 1u;
  tokens[params.tokens_at + row * params.tokens_stride] = max(told, 0);
  ring[params.ring_at + (position % params.slots) * params.ring_stride + row] = told;
${penalty ? mark : ""}
}`;
}

const READ_WIDE = /* wgsl */ `
fn read_four(row: u32, id: u32) -> vec4u { return logits[(params.logits_at + row * params.logits_stride + id) / 4u]; }`;

const READ_NARROW = /* wgsl */ `
fn read_four(row: u32, id: u32) -> vec4u {
  let at = params.logits_at + row * params.logits_stride + id;
  let last = params.count - 1u - id;
  return vec4u(logits[at], logits[at + min(1u, last)], logits[at + min(2u, last)], logits[at + min(3u, last)]);
}`;

const PLAIN = /* wgsl */ `
fn score(row: u32, id: u32, bits: u32) -> u32 { return bits; }`;

const PENALISED = /* wgsl */ `
fn score(row: u32, id: u32, bits: u32) -> u32 {
  let word = atomicLoad(&seen[params.seen_at + row * params.seen_stride + id / 32u]);
  if (((word >> (id % 32u)) & 1u) == 0u || is_nan(bits)) { return bits; }
  let value = bitcast<f32>(bits);
  return bitcast<u32>(select(value / params.penalty, value * params.penalty, value < 0.0));
}`;
