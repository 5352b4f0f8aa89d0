// The sum that finishes a product whose steps were split into parts.
import type { KernelFamily, KernelSpec } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { WORKGROUP } from "../webgpu-elements.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";

interface ReduceSpec extends EpilogueSpec, KernelSpec {}

/** y (+)= the sum of `parts` matrices that lie behind one another, in their order, and what else ends a product. */
export const addParts: KernelFamily<ReduceSpec> = defineKernel<ReduceSpec>(
  "addParts",
  [
    { y: "f32", yWide: true, adds: true, residual: false, bias: false, scales: false },
    { y: "f16", yWide: false, adds: false, residual: false, bias: true, scales: true },
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
