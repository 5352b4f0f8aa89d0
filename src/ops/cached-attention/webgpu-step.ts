// One token's attention to its cache. A workgroup takes a part of the keys of one head (flash-decoding): it reads each key and
// value once, for all query heads that share them, and the parts are combined by a second kernel.
//
// A thread has one vector of the head's channels, in every LANES-th key of a block. It multiplies its four channels of
// queries and keys; the sums over the head's vectors go through workgroup memory. Values of the block are loaded beside
// keys, before anything waits.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { each, headReader, headWriter, tileUse } from "../causal-attention/webgpu-tiles.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { WORKGROUP } from "../webgpu-elements.ts";

/** Threads of a workgroup, about; keys that they read at once, at the most; and keys that each has of a block. */
const THREADS = 128;
const MOST_LANES = 32;
const KEYS_PER_THREAD = 4;

/** How a workgroup shares a block of keys. */
export function blockOf(headDim: number): { readonly lanes: number; readonly head: number; readonly keys: number } {
  const head = Math.ceil(headDim / 4);
  const lanes = Math.min(MOST_LANES, Math.max(1, Math.floor(THREADS / head)));
  return { lanes, head, keys: lanes * KEYS_PER_THREAD };
}

type StepSpec = {
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly keys: string;
  readonly values: string;
  readonly y: string;
  readonly width: VectorWidth;
  readonly headDim: number;
  /** Query heads of a workgroup, which share their keys. */
  readonly heads: number;
  /** Whether y holds the parts' sums, one row a part, and stats their largest score and sum of exponentials. */
  readonly isSplit: boolean;
};

const SAMPLE = { q: "f32", k: "f32", v: "f32", keys: "f32", values: "f32", y: "f32" } as const;

/** Workgroups: splits of the keys, groups of heads, batch. */
export const attentionStep: KernelFamily<StepSpec> = defineKernel<StepSpec>(
  "attentionStep",
  [
    { ...SAMPLE, width: 4, headDim: 64, heads: 1, isSplit: true },
    { ...SAMPLE, keys: "f16", values: "f16", y: "f16", q: "f16", width: 4, headDim: 128, heads: 4, isSplit: false },
    { ...SAMPLE, width: 1, headDim: 6, heads: 3, isSplit: true },
  ],
  (spec) => ({
    buffers: {
      q: tileUse("read", spec.q, spec.width),
      k: tileUse("read", spec.k, spec.width),
      v: tileUse("read", spec.v, spec.width),
      keys: tileUse("add", spec.keys, spec.width),
      values: tileUse("add", spec.values, spec.width),
      lengths: "read i32",
      y: tileUse("write", spec.y, spec.isSplit ? 4 : spec.width),
      ...(spec.isSplit && { stats: "write f32" }),
    },
    params: ["group", "capacity", "scale: f32", "nan"],
    body: stepBody(spec),
  }),
);

function stepBody(spec: StepSpec): string {
  const { width, headDim, heads, isSplit } = spec;
  const { lanes, head, keys } = blockOf(headDim);
  const columns = isSplit ? 4 * head : headDim;
  return /* wgsl */ `
const HEAD_DIM = ${headDim}u;
const HEAD = ${head}u;
const LANES = ${lanes}u;
const KEYS = ${keys}u;
const THREADS = ${lanes * head}u;
const HEADS = ${heads}u;
const LOG2_E = 1.4426950408889634;
const LEAST = -1e30;
var<workgroup> products: array<f32, HEADS * KEYS * (HEAD + 1u)>;
var<workgroup> scores: array<f32, HEADS * KEYS>;
var<workgroup> lane_sums: array<vec4f, THREADS>;
var<workgroup> lane_totals: array<f32, LANES>;
${["q", "k", "v", "keys", "values"].map((name) => headReader(name, width, headDim)).join("")}
${headWriter("keys", tileUse("write", spec.keys, 1), width, headDim)}
${headWriter("values", tileUse("write", spec.values, 1), width, headDim)}
${headWriter("y", tileUse("write", spec.y, 1), isSplit ? 4 : width, columns)}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
${STEP_PLACE}
${each(heads, (h) => `  let q_${h} = read_q(params.q_at + sequence * params.q_stride + (first_head + ${h}u) * HEAD_DIM, 0u, 1u, part) * (params.scale * LOG2_E);`)}
${each(heads, (h) => `  var most_${h} = LEAST;\n  var total_${h} = 0.0;\n  var sum_${h} = vec4f();`)}
  for (var key = begin; key < end; key += KEYS) {
${stepBlock(heads)}
  }
${each(heads, (h) => stepEnd(h, isSplit))}
}`;
}

/** Which keys are the workgroup's; it writes the new one, if that is among them. */
const STEP_PLACE = /* wgsl */ `
  let part = thread % HEAD;
  let lane = thread / HEAD;
  let first_head = group.y * HEADS;
  let sequence = group.z;
  let key_head = first_head / params.group;
  let place = u32(lengths[params.lengths_at + sequence]);
  let total_keys = min(place + 1u, params.capacity);
  let blocks = (total_keys + KEYS - 1u) / KEYS;
  let span = (blocks + groups.x - 1u) / groups.x * KEYS;
  let begin = group.x * span;
  let end = min(total_keys, begin + span);
  let keys_base = params.keys_at + sequence * params.capacity * params.keys_stride + key_head * HEAD_DIM;
  let values_base = params.values_at + sequence * params.capacity * params.values_stride + key_head * HEAD_DIM;
  if (place >= begin && place < end && lane == 0u) {
    store_keys(keys_base, place, part, read_k(params.k_at + sequence * params.k_stride + key_head * HEAD_DIM, 0u, 1u, part));
    store_values(values_base, place, part, read_v(params.v_at + sequence * params.v_stride + key_head * HEAD_DIM, 0u, 1u, part));
  }
  storageBarrier();
  workgroupBarrier();`;

const stepBlock = (heads: number): string => /* wgsl */ `
${each(KEYS_PER_THREAD, (n) => `    let key_${n} = read_keys(keys_base, key + lane + ${n}u * LANES, end, part);`)}
${each(KEYS_PER_THREAD, (n) => `    let value_${n} = read_values(values_base, key + lane + ${n}u * LANES, end, part);`)}
${each(heads, (h) =>
  each(
    KEYS_PER_THREAD,
    (n) => `    products[(${h}u * KEYS + lane + ${n}u * LANES) * (HEAD + 1u) + part] = dot(q_${h}, key_${n});`,
  ),
)}
    workgroupBarrier();
    for (var row = thread; row < HEADS * KEYS; row += THREADS) {
      var score = 0.0;
      for (var at = 0u; at < HEAD; at++) { score += products[row * (HEAD + 1u) + at]; }
      scores[row] = select(LEAST, score, key + row % KEYS < end);
    }
    workgroupBarrier();
${each(heads, (h) => headBlock(h))}
    workgroupBarrier();`;

/** The block's weights for a head: what was summed before shrinks where a larger score came. */
const headBlock = (h: number): string => /* wgsl */ `
    var next_${h} = most_${h};
    for (var i = 0u; i < KEYS; i++) { next_${h} = max(next_${h}, scores[${h}u * KEYS + i]); }
    let shrink_${h} = exp2(most_${h} - next_${h});
    most_${h} = next_${h};
    sum_${h} *= shrink_${h};
    total_${h} *= shrink_${h};
${each(
  KEYS_PER_THREAD,
  (n) => `    {
      let weight = exp2(scores[${h}u * KEYS + lane + ${n}u * LANES] - next_${h});
      total_${h} += weight;
      sum_${h} += weight * value_${n};
    }`,
)}`;

/** The sums of lanes are added; one row of y, or of the parts. */
const stepEnd = (h: number, isSplit: boolean): string => /* wgsl */ `
  lane_sums[thread] = sum_${h};
  if (part == 0u) { lane_totals[lane] = total_${h}; }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = vec4f();
    var total = 0.0;
    for (var i = 0u; i < LANES; i++) {
      sum += lane_sums[i * HEAD + part];
      total += lane_totals[i];
    }
    ${
      isSplit
        ? `let row = (sequence * groups.y * HEADS + first_head + ${h}u) * groups.x + group.x;
    store_y(params.y_at, row, part, sum);
    if (part == 0u) {
      stats[params.stats_at + 2u * row] = most_${h};
      stats[params.stats_at + 2u * row + 1u] = total;
    }`
        : `let y_base = params.y_at + (first_head + ${h}u) * HEAD_DIM;
    store_y(y_base, sequence, part, select(sum / total, vec4f(bitcast<f32>(params.nan)), place >= params.capacity));`
    }
  }
  workgroupBarrier();`;

type CombineSpec = { readonly y: string; readonly width: VectorWidth; readonly headDim: number };

/** A thread has a vector of a head: y = sum of the parts' sums, each as its largest score stands to the largest of all. */
export const combineSplits: KernelFamily<CombineSpec> = defineKernel<CombineSpec>(
  "attentionCombine",
  [
    { y: "f32", width: 4, headDim: 64 },
    { y: "f16", width: 1, headDim: 6 },
  ],
  ({ y, width, headDim }) => ({
    buffers: { partials: "read vec4<f32>", stats: "read f32", lengths: "read i32", y: tileUse("write", y, width) },
    params: ["rows", "nHeads", "splits", "capacity", "nan"],
    body: /* wgsl */ `
const HEAD = ${Math.ceil(headDim / 4)}u;
${headWriter("y", tileUse("write", y, 1), width, headDim)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.rows * HEAD) { return; }
  let row = i / HEAD;
  let part = i % HEAD;
  let sequence = row / params.nHeads;
  var most = -1e30;
  for (var split = row * params.splits; split < (row + 1u) * params.splits; split++) {
    most = max(most, stats[params.stats_at + 2u * split]);
  }
  var sum = vec4f();
  var total = 0.0;
  for (var split = row * params.splits; split < (row + 1u) * params.splits; split++) {
    let factor = exp2(stats[params.stats_at + 2u * split] - most);
    total += factor * stats[params.stats_at + 2u * split + 1u];
    sum += factor * partials[(params.partials_at + split * params.partials_stride) / 4u + part];
  }
  let isLost = u32(lengths[params.lengths_at + sequence]) >= params.capacity;
  store_y(params.y_at + row % params.nHeads * ${headDim}u, sequence, part, select(sum / total, vec4f(bitcast<f32>(params.nan)), isLost));
}`,
  }),
);
