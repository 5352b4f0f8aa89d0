// Sums that finish a product: of the parts into which its steps were split, and over the rows of a matrix.
import type { KernelFamily, KernelSpec, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import { WORKGROUP } from "../webgpu-elements.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";
import type { Operand } from "./webgpu-product.ts";

interface ReduceSpec extends EpilogueSpec, KernelSpec {}

/** y (+)= the sum of `parts` matrices that lie behind one another, in their order, and what else ends a product. */
export const addParts: KernelFamily<ReduceSpec> = defineKernel<ReduceSpec>(
  "addParts",
  [
    { y: "f32", yWide: true, adds: true, bias: false, scales: false },
    { y: "f16", yWide: false, adds: false, bias: true, scales: true },
  ],
  (spec) => ({
    buffers: { parts: "read f32", ...epilogueBuffers(spec) },
    params: ["rows", "columns", "count"],
    body: /* wgsl */ `
${epilogue(spec)}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let across = (params.columns + 3u) / 4u;
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.rows * across) { return; }
  let row = i / across;
  let column = i % across * 4u;
  var sums = vec4f();
  for (var part = 0u; part < params.count; part++) {
    let at = params.parts_at + (part * params.rows + row) * params.columns + column;
    sums += vec4f(parts[at], parts[at + 1u], parts[at + 2u], parts[at + 3u]);
  }
  store(row, column, sums);
}`,
  }),
);

/** Rows that a thread adds. */
const BLOCK_ROWS = 256;

const sumBlocks: KernelFamily<{ x: string }> = defineKernel("sumBlocks", [{ x: "f32" }, { x: "f16" }], ({ x }) => ({
  buffers: { x: `read ${x}`, parts: "write f32" },
  params: ["rows", "columns"],
  body: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let column = id.x;
  if (column >= params.columns) { return; }
  var sum = 0.0;
  for (var row = id.y * ${BLOCK_ROWS}u; row < min((id.y + 1u) * ${BLOCK_ROWS}u, params.rows); row++) {
    sum += f32(x[params.x_at + row * params.x_stride + column]);
  }
  parts[params.parts_at + id.y * params.columns + column] = sum;
}`,
}));

/** to[column] (+)= the sum over the rows of x, by blocks of rows that are added in their order. */
export function sumRows(backend: WebGpuBackend, x: Operand, to: Operand, adds: boolean): void {
  const { rows, columns } = x;
  const blocks = Math.ceil(rows / BLOCK_ROWS);
  const parts = backend.allocate("f32", blocks * columns);
  backend.dispatch(sumBlocks({ x: x.type }), { x, parts }, { rows, columns }, [Math.ceil(columns / 64), blocks]);
  const end = { y: "f32", yWide: false, adds, bias: false, scales: false } as const;
  const params = { rows: 1, columns, count: blocks };
  backend.dispatch(addParts(end), { parts, y: to }, params, groupsFor(Math.ceil(columns / 4), WORKGROUP));
  backend.release(parts);
}
