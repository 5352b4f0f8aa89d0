// The two kernels that a backend needs for its own affairs: zeros in columns, and copies that are not whole words.
import type { KernelFamily } from "./kernel.ts";
import { defineKernel } from "./kernel.ts";

/** Threads of a workgroup of both. */
export const COPY_WORKGROUP = 256;

/** y[row, column] = 0. */
export const zeroColumns: KernelFamily<{ type: "u32" | "f16" }> = defineKernel(
  "zeroColumns",
  [{ type: "u32" }, { type: "f16" }],
  ({ type }) => ({
    buffers: { y: `add ${type}` },
    params: ["rows", "columns"],
    body: /* wgsl */ `
@compute @workgroup_size(${COPY_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * ${COPY_WORKGROUP}u;
  if (i >= params.rows * params.columns) { return; }
  y[params.y_at + (i / params.columns) * params.y_stride + i % params.columns] = ${type}(0);
}`,
  }),
);

/** to[i] = source[i], halves one by one. */
export const copyElements: KernelFamily<Record<string, never>> = defineKernel("copyElements", [{}], () => ({
  buffers: { source: "read f16", to: "add f16" },
  params: ["count"],
  body: /* wgsl */ `
@compute @workgroup_size(${COPY_WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * ${COPY_WORKGROUP}u;
  if (i < params.count) { to[params.to_at + i] = source[params.source_at + i]; }
}`,
}));
