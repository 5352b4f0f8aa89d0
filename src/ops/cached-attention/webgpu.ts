// cachedAttention on WebGPU: one token is shared among workgroups by keys (flash-decoding), several go by tiles of queries.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { headsOf } from "../causal-attention/heads.ts";
import { tileUse } from "../causal-attention/webgpu-tiles.ts";
import { attend, headWidthOf, splitBatch } from "../causal-attention/webgpu.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { vectorAt, vectorType, vectorWidthOf, WORKGROUP } from "../webgpu-elements.ts";
import type { CachedAttentionInputs, CachedAttentionOptions, CachedAttentionOutputs } from "./index.ts";
import { attentionStep, blockOf, combineSplits } from "./webgpu-step.ts";

/** The bits of a number that is none. */
const NAN = 0x7fc00000;
/** Workgroups that keep a large GPU reading, and blocks of keys that are worth a workgroup of their own. */
const ENOUGH_GROUPS = 2048;
const LEAST_BLOCKS = 2;
/** Query heads that a workgroup has at a time, at the most. */
const MOST_HEADS = 4;

type Parts = CachedAttentionInputs & { readonly y: Tensor };

export function forward(
  {
    inputs,
    outputs: { y },
    options,
  }: ForwardCall<CachedAttentionInputs, CachedAttentionOutputs, CachedAttentionOptions>,
  backend: WebGpuBackend,
): void {
  // Cut by sequences, lengths have to be rows too.
  const lengths = inputs.lengths.reshape([inputs.lengths.size, 1]);
  splitBatch(backend, { ...inputs, lengths, y }, (parts) => {
    if (inputs.q.shape[1] === 1) attendStep(backend, parts, options);
    else attendTiles(backend, parts, options);
  });
}

function attendTiles(backend: WebGpuBackend, parts: Parts, options: CachedAttentionOptions): void {
  const { q, k, v, keys, values, lengths, y } = parts;
  const { headDim, scale = headDim ** -0.5 } = options;
  const { batch, length, nHeads, group } = headsOf("cachedAttention", parts, headDim);
  const capacity = keys.shape[1];
  const appendWidth = vectorWidthOf(k, v, keys, values);
  const columns = k.columns / appendWidth;
  const append = cacheAppend({ k: k.dtype, v: v.dtype, keys: keys.dtype, values: values.dtype, width: appendWidth });
  const appended = { rows: batch * length, columns, length, capacity };
  backend.dispatch(append, { k, v, keys, values, lengths }, appended, groupsFor(k.rows * columns, WORKGROUP));
  attend(backend, { q, k: keys, v: values, y, lengths }, { headDim, scale, length, nHeads, group, keyRows: capacity });
}

function attendStep(backend: WebGpuBackend, parts: Parts, options: CachedAttentionOptions): void {
  const { q, k, v, keys, values, lengths, y } = parts;
  const { headDim, scale = headDim ** -0.5, most = keys.shape[1] } = options;
  const { batch, nHeads, group } = headsOf("cachedAttention", parts, headDim);
  const capacity = keys.shape[1];
  let heads = Math.min(group, MOST_HEADS);
  while (group % heads !== 0) heads--;
  const teams = nHeads / heads;
  const blocks = Math.ceil(Math.min(most, capacity) / blockOf(headDim).keys);
  const splits = Math.max(1, Math.min(Math.ceil(ENOUGH_GROUPS / (batch * teams)), Math.floor(blocks / LEAST_BLOCKS)));
  scope(() => {
    const isSplit = splits > 1;
    const partials = isSplit ? emptyTensor(backend, [batch * nHeads * splits, 4 * Math.ceil(headDim / 4)]) : y;
    const stats = isSplit ? emptyTensor(backend, [batch * nHeads * splits, 2]) : undefined;
    const kernel = attentionStep({
      q: q.dtype,
      k: k.dtype,
      v: v.dtype,
      keys: keys.dtype,
      values: values.dtype,
      y: partials.dtype,
      width: headWidthOf(headDim, q, k, v, keys, values, y),
      headDim,
      heads,
      isSplit,
    });
    const buffers = { q, k, v, keys, values, lengths, y: partials, ...(stats && { stats }) };
    const params = { group, capacity, scale, nan: NAN };
    backend.dispatch(kernel, buffers, params, [splits, teams, batch]);
    if (!stats) return;
    const width = headWidthOf(headDim, y);
    const combine = combineSplits({ y: y.dtype, width, headDim });
    const rows = batch * nHeads;
    backend.dispatch(
      combine,
      { partials, stats, lengths, y },
      { rows, nHeads, splits, capacity, nan: NAN },
      groupsFor(rows * Math.ceil(headDim / 4), WORKGROUP),
    );
  });
}

type AppendSpec = {
  readonly k: string;
  readonly v: string;
  readonly keys: string;
  readonly values: string;
  readonly width: VectorWidth;
};

/** keys, values at row lengths[sequence] + t = k, v at row t. */
const cacheAppend: KernelFamily<AppendSpec> = defineKernel<AppendSpec>(
  "cacheAppend",
  [
    { k: "f32", v: "f32", keys: "f16", values: "f16", width: 4 },
    { k: "f16", v: "f16", keys: "f32", values: "f32", width: 1 },
  ],
  ({ k, v, keys, values, width }) => ({
    buffers: {
      k: tileUse("read", k, width),
      v: tileUse("read", v, width),
      keys: tileUse("add", keys, width),
      values: tileUse("add", values, width),
      lengths: "read i32",
    },
    params: ["rows", "columns", "length", "capacity"],
    body: /* wgsl */ `
const WIDTH = ${width}u;
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.rows * params.columns) { return; }
  let row = i / params.columns;
  let column = i % params.columns;
  let sequence = row / params.length;
  let place = u32(lengths[params.lengths_at + sequence]) + row % params.length;
  if (place >= params.capacity) { return; }
  let to = sequence * params.capacity + place;
  ${vectorAt("keys", "to")} = ${vectorType(keys, width)}(${vectorAt("k")});
  ${vectorAt("values", "to")} = ${vectorType(values, width)}(${vectorAt("v")});
}`,
  }),
);
