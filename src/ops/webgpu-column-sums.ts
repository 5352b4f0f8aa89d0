// Sums over rows on the WebGPU backend, the same bits every time: partial sums of blocks of rows, then a kernel that adds
// them in their order. No atomics.
import type { Kernel, KernelFamily, WebGpuBackend } from "../backends/webgpu/index.ts";
import { defineKernel } from "../backends/webgpu/index.ts";
import { scope } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { emptyTensor } from "../tensor/tensor.ts";
import type { VectorWidth } from "./webgpu-elements.ts";
import { floatsOf, splitRows, vectorAt, vectorType, vectorWidthOf } from "./webgpu-elements.ts";

/** At most so many blocks of rows, and at least so many rows a block. */
const BLOCKS = 128;
const LEAST_ROWS = 16;
/** Of a workgroup that sums rows: so many vectors of columns, and threads that share the rows. */
const SPAN = 32;
const LANES = 8;
/** Of a workgroup that adds partial sums: so many columns, and threads that share the partial sums. */
const FINAL_SPAN = 16;
const FINAL_LANES = 16;

/** sum += column sums of x. @param x `[rows, columns]`, may be a view of columns @param sum f32 `[columns]` */
export function addColumnSums(backend: WebGpuBackend, x: Tensor, sum: Tensor): void {
  splitRows(backend, { x }, (parts) => {
    const width = vectorWidthOf(parts.x);
    addSumsOf(backend, { kernel: columnSums({ x: x.dtype, width }), buffers: parts, like: parts.x, width, sum });
  });
}

/**
 * sum += the column sums that a kernel with the body {@link columnSumsBody} finds over the rows of `like`. Without a `sum`
 * the kernel runs for what else it writes.
 */
export function addSumsOf(
  backend: WebGpuBackend,
  call: {
    kernel: Kernel;
    buffers: { readonly [name: string]: Tensor };
    like: Tensor;
    width: VectorWidth;
    sum: Tensor | undefined;
  },
): void {
  const { rows } = call.like;
  const columns = call.like.columns / call.width;
  const rowsPerBlock = Math.max(LEAST_ROWS, Math.ceil(rows / BLOCKS));
  const blocks = Math.ceil(rows / rowsPerBlock);
  const params = { rows, columns, rowsPerBlock };
  scope(() => {
    const partials = call.sum && emptyTensor(backend, [blocks, call.like.columns]);
    const buffers = partials ? { ...call.buffers, partials } : call.buffers;
    backend.dispatch(call.kernel, buffers, params, [Math.ceil(columns / SPAN), blocks]);
    if (partials && call.sum) addPartialSums(backend, partials, call.sum);
  });
}

/** The parameters of {@link columnSumsBody}. */
export const COLUMN_SUMS_PARAMS: readonly string[] = ["rows", "columns", "rowsPerBlock"];

/**
 * An entry point that adds up `value(row, column) -> Floats`, which the text of `value` defines, over blocks of rows. It
 * calls it once for every row and column, where columns count vectors.
 * @param sums whether there is a buffer `partials` `[blocks, columns]` for the sums: "write vec4<f32>" or "write f32"
 */
export function columnSumsBody({ width, sums }: { width: VectorWidth; sums: boolean }, value: string): string {
  return /* wgsl */ `${floatsOf(width)}
const SPAN = ${SPAN}u;
const LANES = ${LANES}u;
var<workgroup> shared_sums: array<Floats, ${SPAN * LANES}>;
${value}

@compute @workgroup_size(${SPAN * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let column = group.x * SPAN + thread % SPAN;
  let lane = thread / SPAN;
  var sum = Floats(0);
  if (column < params.columns) {
    let first = group.y * params.rowsPerBlock;
    let end = min(first + params.rowsPerBlock, params.rows);
    for (var row = first + lane; row < end; row += LANES) { sum += value(row, column); }
  }
${sums ? WRITE_PARTIALS : ""}
}`;
}

const WRITE_PARTIALS = /* wgsl */ `
  shared_sums[thread] = sum;
  workgroupBarrier();
  if (lane > 0u || column >= params.columns) { return; }
  for (var other = 1u; other < LANES; other++) { sum += shared_sums[other * SPAN + thread]; }
  ${vectorAt("partials", "group.y")} = sum;`;

/**
 * sum += the column sums of partial sums.
 * @param partials f32 `[blocks, columns]`
 * @param sum f32 `[columns]`; or `[rows, taps]` with rows · taps = columns, of which column `tap · rows + row` is an element
 */
export function addPartialSums(backend: WebGpuBackend, partials: Tensor, sum: Tensor): void {
  const isVector = sum.shape.length === 1;
  const { rows: blocks, columns } = partials;
  const params = {
    blocks,
    columns,
    inner: isVector ? columns : sum.rows,
    innerStep: isVector ? 1 : sum.rowStride,
    outerStep: isVector ? 0 : 1,
  };
  const kernel = partialSums({ adds: backend.hasContent(sum) });
  backend.dispatch(kernel, { partials, sum }, params, [Math.ceil(columns / FINAL_SPAN)]);
}

const columnSums: KernelFamily<{ x: string; width: VectorWidth }> = defineKernel(
  "columnSums",
  [
    { x: "f32", width: 1 },
    { x: "f16", width: 4 },
  ],
  ({ x, width }) => ({
    buffers: { x: `read ${vectorType(x, width)}`, partials: `write ${vectorType("f32", width)}` },
    params: COLUMN_SUMS_PARAMS,
    body: columnSumsBody(
      { width, sums: true },
      /* wgsl */ `
fn value(row: u32, column: u32) -> Floats { return Floats(${vectorAt("x")}); }`,
    ),
  }),
);

const partialSums: KernelFamily<{ adds: boolean }> = defineKernel(
  "partialSums",
  [{ adds: true }, { adds: false }],
  ({ adds }) => ({
    buffers: { partials: "read f32", sum: adds ? "add f32" : "write f32" },
    params: ["blocks", "columns", "inner", "innerStep", "outerStep"],
    body: /* wgsl */ `
const SPAN = ${FINAL_SPAN}u;
const LANES = ${FINAL_LANES}u;
var<workgroup> shared_sums: array<f32, ${FINAL_SPAN * FINAL_LANES}>;

@compute @workgroup_size(${FINAL_SPAN * FINAL_LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let column = group.x * SPAN + thread % SPAN;
  let lane = thread / SPAN;
  var total = 0.0;
  if (column < params.columns) {
    let at = params.partials_at + column;
    var block = lane;
    // Four at a time, so that their reads do not wait for each other.
    for (; block + 3u * LANES < params.blocks; block += 4u * LANES) {
      let first = partials[at + block * params.partials_stride];
      let second = partials[at + (block + LANES) * params.partials_stride];
      let third = partials[at + (block + 2u * LANES) * params.partials_stride];
      let fourth = partials[at + (block + 3u * LANES) * params.partials_stride];
      total += (first + second) + (third + fourth);
    }
    for (; block < params.blocks; block += LANES) { total += partials[at + block * params.partials_stride]; }
  }
  shared_sums[thread] = total;
  workgroupBarrier();
  if (lane > 0u || column >= params.columns) { return; }
  for (var other = 1u; other < LANES; other++) { total += shared_sums[other * SPAN + thread]; }
  let to = params.sum_at + (column % params.inner) * params.innerStep + (column / params.inner) * params.outerStep;
  sum[to] = ${adds ? "sum[to] + " : ""}total;
}`,
  }),
);
