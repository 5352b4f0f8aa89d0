// A GPU that has little to do lowers its clocks (an H100 from 1980 to 345 MHz) and takes half a second of full load to
// raise them again: without this a measurement behind the compilation of a kernel is off by a factor of 5.
import type { KernelFamily, WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { defineKernel } from "../../src/backends/webgpu/index.ts";
import { emptyTensor } from "../../src/tensor/tensor.ts";

/** Full load for so long. */
const LOAD_MS = 600;
/** How long clocks stay up without load; a little less than was seen. */
const LASTING_MS = 1000;
const GROUPS = 2048;

const spin: KernelFamily<Record<string, never>> = defineKernel("spin", [{}], () => ({
  buffers: { y: "write f32" },
  params: ["count"],
  body: /* wgsl */ `
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var value = f32(id.x);
  for (var i = 0u; i < params.count; i++) { value = fma(value, 0.999, 1.0); }
  y[params.y_at + id.x] = value;
}`,
}));

const raisedAt = new WeakMap<WebGpuBackend, number>();

/** Keeps a GPU busy until its clocks are up, unless that was done a moment ago. Nothing on an emulated one. */
export async function raiseClocks(backend: WebGpuBackend): Promise<void> {
  await backend.finish();
  if (backend.about.isSoftware || performance.now() - (raisedAt.get(backend) ?? -Infinity) < LASTING_MS) return;
  const y = emptyTensor(backend, [GROUPS * 256]);
  const begin = performance.now();
  while (performance.now() - begin < LOAD_MS) {
    for (let i = 0; i < 8; i++) backend.dispatch(spin({}), { y }, { count: 20_000 }, [GROUPS]);
    await backend.finish();
  }
  y.dispose();
  raisedAt.set(backend, performance.now());
}
