// What element-wise and row-wise WebGPU kernels share: one thread an element, and tensors cut by rows where a binding is
// too small for them.
import type { Kernel, WebGpuBackend } from "../backends/webgpu/index.ts";
import { groupsFor } from "../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../core/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Threads of a workgroup of an element-wise kernel. */
export const WORKGROUP = 256;

/** An entry point whose `body` runs once an element, with `row` and `column` (u32); parameters `rows`, `columns`. */
export function elementsHeader(body: string): string {
  return /* wgsl */ `
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.rows * params.columns) { return; }
  let row = i / params.columns;
  let column = i % params.columns;
${body}
}`;
}

/** Dispatches a kernel of {@link elementsHeader} over all elements of `like`. */
export function dispatchElements(
  backend: WebGpuBackend,
  kernel: Kernel,
  buffers: { readonly [name: string]: Tensor },
  like: Tensor,
  params: { readonly [name: string]: number } = {},
): void {
  const { rows, columns } = like;
  backend.dispatch(kernel, buffers, { ...params, rows, columns }, groupsFor(rows * columns, WORKGROUP));
}

/**
 * Calls `body` with all tensors, seen as `[rows, columns]`; or, where one is larger than a binding, several times with
 * pieces of their rows. All have the same number of rows. Tensors that have no such rows do not belong here.
 */
export function splitRows<T extends { readonly [name: string]: Tensor | undefined }>(
  backend: WebGpuBackend,
  tensors: T,
  body: (parts: T, firstRow: number) => void,
): void {
  const present = Object.values(tensors).filter((tensor) => tensor !== undefined);
  const rowBytes = Math.max(1, ...present.map(({ rowStride, dtype }) => rowStride * BYTES_PER_ELEMENT[dtype]));
  const rows = present[0].rows;
  // Room for the 256 bytes to which a binding is aligned.
  const most = Math.max(1, Math.floor((backend.maxBindingBytes - 512) / rowBytes));
  if (rows <= most) return body(tensors, 0);
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const parts = Object.entries(tensors).map(([name, tensor]) => [name, tensor?.rowsOf(first, count)]);
    body(Object.fromEntries(parts) as T, first);
  }
}
