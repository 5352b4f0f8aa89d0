// Small kernels for tests of the WebGPU backend itself.
import type { Kernel, KernelFamily, WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../src/backends/webgpu/index.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** y = x + amount, or y += x + amount where it adds; any strides. */
const plus: KernelFamily<{ type: string; adds: boolean }> = defineKernel(
  "testPlus",
  [
    { type: "f32", adds: false },
    { type: "f16", adds: true },
  ],
  ({ type, adds }) => ({
    buffers: { x: `read ${type}`, y: adds ? `add ${type}` : `write ${type}` },
    params: ["rows", "columns", "amount: f32"],
    body: /* wgsl */ `
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * 64u + thread;
  if (i >= params.rows * params.columns) { return; }
  let at = params.y_at + i / params.columns * params.y_stride + i % params.columns;
  let value = x[params.x_at + i / params.columns * params.x_stride + i % params.columns] + ${type}(params.amount);
  y[at] = ${adds ? "y[at] + " : ""}value;
}`,
  }),
);

/** y = x + amount; with `adds`, y += x + amount. */
export function dispatchPlus(backend: WebGpuBackend, x: Tensor, y: Tensor, amount: number, adds = false): void {
  const { rows, columns } = y;
  const kernel = plus({ type: x.dtype, adds });
  backend.dispatch(kernel, { x, y }, { rows, columns, amount }, groupsFor(rows * columns, 64));
}

/** A kernel whose WGSL is wrong. */
export const wrongKernel: Kernel = defineKernel("testWrong", [{}], () => ({
  buffers: { y: "write f32" },
  body: "@compute @workgroup_size(1) fn main() { y[0] = nonsense; }",
}))({});
