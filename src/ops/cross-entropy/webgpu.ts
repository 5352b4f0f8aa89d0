// crossEntropy on the WebGPU backend: one workgroup a row, one pass over its logits.
// Source: Milakov & Gimelshein 2018, "Online normalizer calculation for softmax".
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { floatsOf, splitRows, vectorType, WORKGROUP } from "../webgpu-elements.ts";
import type { CrossEntropyInputs, CrossEntropyOutputs } from "./index.ts";
import { IGNORE_INDEX } from "./options.ts";
import type { CrossEntropyOptions } from "./options.ts";

/** The bits of a NaN, which WGSL has no word for. */
const NAN_BITS = 0x7fc00000;

export function forward(
  { inputs, outputs, saved, options }: ForwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>,
  backend: WebGpuBackend,
): void {
  storeLosses(inputs, { losses: outputs.losses, logSumExp: saved?.logSumExp }, options, backend);
  storeMean(inputs.targets, { ...outputs, inverseCount: saved?.inverseCount }, options, backend);
}

/** The losses of all rows, and their log-sum-exp where that is wanted. */
export function storeLosses(
  { logits, targets }: CrossEntropyInputs,
  { losses, logSumExp }: { losses: Tensor; logSumExp: Tensor | undefined },
  { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns }: CrossEntropyOptions,
  backend: WebGpuBackend,
): void {
  const column = (tensor: Tensor): Tensor => tensor.reshape([logits.rows, 1]);
  const tensors = { logits, losses: column(losses), logSumExp: logSumExp && column(logSumExp) };
  splitRows(backend, tensors, (parts, firstRow) => {
    const width = widthOf(vocabSize, parts.logits);
    const kernel = rowLosses({ type: logits.dtype, width, saves: logSumExp !== undefined });
    const params = { first_row: firstRow, rows: parts.logits.rows, vectors: vocabSize / width, vocabulary: vocabSize };
    const ids = { target_columns: targets.columns, ignored: ignoreIndex, nan: NAN_BITS };
    const { logSumExp: part, ...buffers } = parts;
    const all = part ? { ...buffers, logSumExp: part, targets } : { ...buffers, targets };
    backend.dispatch(kernel, all, { ...params, ...ids }, groupsFor(parts.logits.rows, 1));
  });
}

/** loss = the mean of the losses that are not ignored; inverseCount = 1 / their number, where that is wanted. */
export function storeMean(
  targets: Tensor,
  { losses, loss, inverseCount }: { losses: Tensor; loss: Tensor; inverseCount: Tensor | undefined },
  { ignoreIndex = IGNORE_INDEX }: CrossEntropyOptions,
  backend: WebGpuBackend,
): void {
  const params = { rows: losses.size, target_columns: targets.columns, ignored: ignoreIndex };
  const buffers = { losses: losses.reshape([losses.size]), targets, loss };
  if (inverseCount) backend.dispatch(meanLoss({ saves: true }), { ...buffers, inverseCount }, params, [1]);
  else backend.dispatch(meanLoss({ saves: false }), buffers, params, [1]);
}

/** grad.logits += (softmax(logits) - onehot(target)) (grad.loss / count + grad.losses). */
export function backward(
  call: BackwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>,
  backend: WebGpuBackend,
): void {
  const { logits, targets } = call.inputs;
  const { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns } = call.options;
  const { loss: gradLoss, losses: gradLosses } = call.gradOutputs;
  const { logits: grad } = call.gradInputs;
  if (!grad || (!gradLoss && !gradLosses)) return;
  const { logSumExp, inverseCount } = call.saved;
  const adds = backend.hasContent(grad);
  const columns = adds ? vocabSize : grad.columns;
  const types = { type: logits.dtype, gradType: grad.dtype };
  const rest = {
    targets,
    logSumExp,
    ...(gradLoss && { gradLoss, inverseCount }),
    ...(gradLosses && { gradLosses: gradLosses.reshape([logits.rows]) }),
  };
  splitRows(backend, { logits, grad }, (parts, firstRow) => {
    const width = widthOf(vocabSize, parts.logits) === 4 ? widthOf(columns, parts.grad) : 1;
    const spec = { ...types, width, adds, mean: gradLoss !== undefined, each: gradLosses !== undefined };
    const params = { first_row: firstRow, rows: parts.logits.rows, vectors: columns / width, vocabulary: vocabSize };
    const ids = { target_columns: targets.columns, ignored: ignoreIndex };
    const groups = groupsFor(parts.logits.rows, 1);
    backend.dispatch(rowGradients(spec), { ...parts, ...rest }, { ...params, ...ids }, groups);
  });
}

/** Elements that a thread loads at once: four where every row begins and ends on a vector. */
function widthOf(columns: number, { offset, rowStride }: Tensor): VectorWidth {
  return [columns, offset, rowStride].every((count) => count % 4 === 0) ? 4 : 1;
}

/** What all kernels here know of targets: a view of any shape, counted by rows of logits. */
const TARGETS = /* wgsl */ `
fn target_of(row: u32) -> i32 {
  let i = params.targets_at + (row / params.target_columns) * params.targets_stride + row % params.target_columns;
  return targets[i];
}
fn is_ignored(id: i32) -> bool { return id == bitcast<i32>(params.ignored); }`;

const SCALARS = /* wgsl */ `
fn largest_of(x: Floats) -> f32 { return x; }
fn logit_at(start: u32, i: u32) -> f32 { return f32(logits[start + i]); }`;

const VECTORS = /* wgsl */ `
fn largest_of(x: Floats) -> f32 { return max(max(x.x, x.y), max(x.z, x.w)); }
fn logit_at(start: u32, i: u32) -> f32 { return f32(logits[start + i / 4u][i % 4u]); }`;

type LossSpec = { readonly type: string; readonly width: VectorWidth; readonly saves: boolean };

const rowLosses: KernelFamily<LossSpec> = defineKernel<LossSpec>(
  "crossEntropy",
  [
    { type: "f32", width: 1, saves: true },
    { type: "f32", width: 4, saves: false },
    { type: "f16", width: 4, saves: true },
  ],
  ({ type, width, saves }) => ({
    buffers: {
      logits: `read ${vectorType(type, width)}`,
      targets: "read i32",
      losses: "write f32",
      ...(saves ? { logSumExp: "write f32" as const } : {}),
    },
    params: ["first_row", "rows", "vectors", "vocabulary", "target_columns", "ignored", "nan"],
    body: /* wgsl */ `
// Below every logit but minus infinity, whose exponential is 0 all the same.
const LOWEST = -3.4e38f;
var<workgroup> maxima: array<f32, ${WORKGROUP}>;
var<workgroup> sums: array<f32, ${WORKGROUP}>;
${TARGETS}
${floatsOf(width)}
${width === 4 ? VECTORS : SCALARS}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let start = (params.logits_at + row * params.logits_stride) / WIDTH;
  var largest = LOWEST;
  var sum = 0.0;
  for (var i = thread; i < params.vectors; i += ${WORKGROUP}u) {
    let x = Floats(logits[start + i]);
    let top = largest_of(x);
    if (top > largest) {
      sum *= exp(largest - top);
      largest = top;
    }
    sum += sum_of(exp(x - largest));
  }
  maxima[thread] = largest;
  sums[thread] = sum;
  for (var half = ${WORKGROUP / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) {
      let a = maxima[thread];
      let b = maxima[thread + half];
      let top = max(a, b);
      sums[thread] = sums[thread] * exp(a - top) + sums[thread + half] * exp(b - top);
      maxima[thread] = top;
    }
  }
  if (thread != 0u) { return; }
  let id = target_of(params.first_row + row);
  let log_sum = log(sums[0]);
  var logit = bitcast<f32>(params.nan);
  if (u32(id) < params.vocabulary) { logit = logit_at(start, u32(id)); }
  losses[params.losses_at + row] = select(maxima[0] - logit + log_sum, 0.0, is_ignored(id));
  ${saves ? "logSumExp[params.logSumExp_at + row] = maxima[0] + log_sum;" : ""}
}`,
  }),
);

const meanLoss: KernelFamily<{ saves: boolean }> = defineKernel<{ saves: boolean }>(
  "meanLoss",
  [{ saves: true }, { saves: false }],
  ({ saves }) => ({
    buffers: {
      losses: "read f32",
      targets: "read i32",
      loss: "write f32",
      ...(saves ? { inverseCount: "write f32" as const } : {}),
    },
    params: ["rows", "target_columns", "ignored"],
    body: /* wgsl */ `
var<workgroup> sums: array<f32, ${WORKGROUP}>;
var<workgroup> counts: array<u32, ${WORKGROUP}>;
${TARGETS}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(local_invocation_index) thread: u32) {
  var sum = 0.0;
  var count = 0u;
  for (var row = thread; row < params.rows; row += ${WORKGROUP}u) {
    if (is_ignored(target_of(row))) { continue; }
    sum += losses[params.losses_at + row];
    count++;
  }
  sums[thread] = sum;
  counts[thread] = count;
  for (var half = ${WORKGROUP / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) {
      sums[thread] += sums[thread + half];
      counts[thread] += counts[thread + half];
    }
  }
  if (thread != 0u) { return; }
  var inverse = 0.0;
  if (counts[0] > 0u) { inverse = 1.0 / f32(counts[0]); }
  loss[params.loss_at] = sums[0] * inverse;
  ${saves ? "inverseCount[params.inverseCount_at] = inverse;" : ""}
}`,
  }),
);

type GradientSpec = {
  readonly type: string;
  readonly gradType: string;
  readonly width: VectorWidth;
  readonly adds: boolean;
  /** Whether the mean has a gradient, and whether each loss has. */
  readonly mean: boolean;
  readonly each: boolean;
};

const SCALAR_HITS = "fn hits(column: u32, id: i32) -> bool { return i32(column) == id; }";
const VECTOR_HITS =
  "fn hits(column: u32, id: i32) -> vec4<bool> { return vec4i(i32(column)) + vec4i(0, 1, 2, 3) == vec4i(id); }";

const rowGradients: KernelFamily<GradientSpec> = defineKernel<GradientSpec>(
  "crossEntropyBackward",
  [
    { type: "f32", gradType: "f32", width: 1, adds: true, mean: true, each: true },
    { type: "f32", gradType: "f16", width: 4, adds: false, mean: true, each: false },
    { type: "f16", gradType: "f16", width: 1, adds: false, mean: false, each: true },
  ],
  ({ type, gradType, width, adds, mean, each }) => ({
    buffers: {
      logits: `read ${vectorType(type, width)}`,
      targets: "read i32",
      logSumExp: "read f32",
      ...(mean ? { gradLoss: "read f32" as const, inverseCount: "read f32" as const } : {}),
      ...(each ? { gradLosses: "read f32" as const } : {}),
      grad: `${adds ? "add" : "write"} ${vectorType(gradType, width)}`,
    },
    params: ["first_row", "rows", "vectors", "vocabulary", "target_columns", "ignored"],
    body: /* wgsl */ `
${TARGETS}
${floatsOf(width)}
${width === 4 ? VECTORS : SCALARS}
${width === 4 ? VECTOR_HITS : SCALAR_HITS}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let part_row = group.x + group.y * groups.x;
  if (part_row >= params.rows) { return; }
  let row = params.first_row + part_row;
  let start = (params.logits_at + part_row * params.logits_stride) / WIDTH;
  let grad_start = (params.grad_at + part_row * params.grad_stride) / WIDTH;
  let id = target_of(row);
  let is_out = is_ignored(id);
  ${adds ? "if (is_out) { return; }" : ""}
  let log_sum_exp = logSumExp[params.logSumExp_at + row];
  var factor = 0.0;
  ${mean ? "factor += gradLoss[params.gradLoss_at] * inverseCount[params.inverseCount_at];" : ""}
  ${each ? "factor += gradLosses[params.gradLosses_at + row];" : ""}
  for (var i = thread; i < params.vectors; i += ${WORKGROUP}u) {
    let column = i * WIDTH;
    var g = Floats(0.0);
    if (!is_out && column < params.vocabulary) {
      g = (exp(Floats(logits[start + i]) - log_sum_exp) - select(Floats(0.0), Floats(1.0), hits(column, id))) * factor;
    }
    grad[grad_start + i] = ${vectorType(gradType, width)}(${adds ? "Floats(grad[grad_start + i]) + " : ""}g);
  }
}`,
  }),
);
