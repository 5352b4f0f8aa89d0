// sumSquares on the WebGPU backend: sums of blocks, then the sum of those, in an order that follows from the shapes alone.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { floatsOf, splitRows, vectorType, WORKGROUP } from "../webgpu-elements.ts";

/** Elements that a workgroup adds up. */
const BLOCK = 1 << 14;

/** Σ x² over all elements of all tensors, on the device. */
export async function sumSquares(tensors: readonly Tensor[], backend: WebGpuBackend): Promise<number> {
  const partials = sumBlocks(tensors, backend);
  const sum = emptyTensor(backend, []);
  backend.dispatch(sumPartials({}), { partials, sum }, { count: partials.rows }, [1]);
  const result = sum.readNative();
  partials.dispose();
  sum.dispose();
  return (await result)[0];
}

/** Sums of the squares of blocks of all tensors, `[blocks, 1]`: what {@link SUM_PARTIALS} adds up. */
export function sumBlocks(tensors: readonly Tensor[], backend: WebGpuBackend): Tensor {
  const parts: Tensor[] = [];
  for (const x of tensors) splitRows(backend, { x }, ({ x: part }) => void parts.push(part));
  const counts = parts.map((part) => Math.ceil(part.size / BLOCK));
  const partials = emptyTensor(backend, [Math.max(1, sum(counts)), 1]);
  if (parts.length === 0) partials.write(Float32Array.of(0));
  let at = 0;
  for (const [i, x] of parts.entries()) {
    const isFlat = x.isContiguous || x.rows === 1;
    const width = isFlat && x.size % 4 === 0 && x.offset % 4 === 0 ? 4 : 1;
    const kernel = blockSums({ type: x.dtype, isFlat, width });
    const params = { columns: isFlat ? x.size : x.columns, vectors: x.size / width, blocks: counts[i] };
    backend.dispatch(kernel, { x, partials: partials.rowsOf(at, counts[i]) }, params, groupsFor(counts[i], 1));
    at += counts[i];
  }
  return partials;
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}

const FLAT = "fn place_of(i: u32) -> u32 { return i; }";
const ROWS = "fn place_of(i: u32) -> u32 { return (i / params.columns) * params.x_stride + i % params.columns; }";

type BlockSpec = { readonly type: string; readonly isFlat: boolean; readonly width: VectorWidth };

const blockSums: KernelFamily<BlockSpec> = defineKernel<BlockSpec>(
  "sumSquares",
  [
    { type: "f32", isFlat: true, width: 4 },
    { type: "f32", isFlat: false, width: 1 },
    { type: "f16", isFlat: true, width: 1 },
  ],
  ({ type, isFlat, width }) => ({
    buffers: { x: `read ${vectorType(type, width)}`, partials: "write f32" },
    params: ["columns", "vectors", "blocks"],
    body: /* wgsl */ `
${floatsOf(width)}
const BLOCK = ${BLOCK / width}u;
${isFlat ? FLAT : ROWS}
${TREE}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let block = group.x + group.y * groups.x;
  if (block >= params.blocks) { return; }
  let end = min(params.vectors, (block + 1u) * BLOCK);
  var sum = Floats(0.0);
  for (var i = block * BLOCK + thread; i < end; i += ${WORKGROUP}u) {
    let value = Floats(x[params.x_at / WIDTH + place_of(i)]);
    sum += value * value;
  }
  let total = sum_of_threads(thread, sum_of(sum));
  if (thread == 0u) { partials[params.partials_at + block] = total; }
}`,
  }),
);

/** `sum_of_threads`: the sum of a number a thread, for thread 0. The workgroup has WORKGROUP threads. */
const TREE: string = /* wgsl */ `
var<workgroup> sums: array<f32, ${WORKGROUP}>;
fn sum_of_threads(thread: u32, value: f32) -> f32 {
  sums[thread] = value;
  for (var half = ${WORKGROUP / 2}u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) { sums[thread] += sums[thread + half]; }
  }
  return sums[0];
}`;

/** `sum_of_partials(thread)`: the sum of the buffer `partials` (`params.count` of them), for thread 0 of one workgroup. */
export const SUM_PARTIALS: string = /* wgsl */ `
${TREE}
fn sum_of_partials(thread: u32) -> f32 {
  var sum = 0.0;
  for (var i = thread; i < params.count; i += ${WORKGROUP}u) { sum += partials[params.partials_at + i]; }
  return sum_of_threads(thread, sum);
}`;

const sumPartials: KernelFamily<{}> = defineKernel("sumPartials", [{}], () => ({
  buffers: { partials: "read f32", sum: "write f32" },
  params: ["count"],
  body: /* wgsl */ `
${SUM_PARTIALS}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(local_invocation_index) thread: u32) {
  let total = sum_of_partials(thread);
  if (thread == 0u) { sum[params.sum_at] = total; }
}`,
}));
