// What element-wise and row-wise WebGPU kernels share: one thread a vector of elements, and tensors cut by rows where a
// binding is too small for them.
import type { Kernel, WebGpuBackend } from "../backends/webgpu/index.ts";
import { groupsFor } from "../backends/webgpu/index.ts";
import type { BufferUse } from "../backends/webgpu/kernel.ts";
import { BYTES_PER_ELEMENT } from "../core/dtype.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Threads of a workgroup of an element-wise kernel. */
export const WORKGROUP = 256;

/** Elements that a thread reads at once. */
export type VectorWidth = 1 | 4;

/** 4 where all rows begin and end at multiples of four elements, else 1. Vectors count as one row. */
export function vectorWidthOf(...tensors: readonly (Tensor | undefined)[]): VectorWidth {
  const isWhole = tensors.every(
    (tensor) => !tensor || (tensor.offset % 4 === 0 && tensor.rowStride % 4 === 0 && tensor.columns % 4 === 0),
  );
  return isWhole ? 4 : 1;
}

/** The WGSL type of `width` elements: "f32", "vec4<f16>". */
export function vectorType(type: string, width: VectorWidth): string {
  return width === 4 ? `vec4<${type}>` : type;
}

/** WGSL: the constant WIDTH; `Floats`, so many numbers in float32, with which kernels reckon; and `sum_of` them. */
export function floatsOf(width: VectorWidth): string {
  return /* wgsl */ `
const WIDTH = ${width}u;
alias Floats = ${vectorType("f32", width)};
fn sum_of(v: Floats) -> f32 { return ${width === 4 ? "(v.x + v.y) + (v.z + v.w)" : "v"}; }`;
}

/** WGSL: 1 / (1 + e^-v), without the infinities that a shader may take for granted not to meet. */
export const SIGMOID: string = /* wgsl */ `
fn sigmoid(v: Floats) -> Floats { return 1 / (1 + exp(min(-v, Floats(80)))); }`;

/** WGSL: the vector of `buffer` at (`row`, `column`), where columns count vectors. */
export function vectorAt(buffer: string, row = "row", column = "column"): string {
  return `${buffer}[(params.${buffer}_at + (${row}) * params.${buffer}_stride) / WIDTH + ${column}]`;
}

/** How a kernel uses a gradient, a part of its specification: "add f32", "write f16" where it has no content yet. */
export function gradientUse(backend: WebGpuBackend, gradient: Tensor): BufferUse;
export function gradientUse(backend: WebGpuBackend, gradient: Tensor | undefined): BufferUse | undefined;
export function gradientUse(backend: WebGpuBackend, gradient: Tensor | undefined): BufferUse | undefined {
  return gradient && `${backend.hasContent(gradient) ? "add" : "write"} ${gradient.dtype}`;
}

/** "read f16" as "read vec4<f16>". */
export function vectorUse(use: BufferUse, width: VectorWidth): BufferUse {
  const [access, type] = use.split(" ");
  return `${access} ${vectorType(type, width)}` as BufferUse;
}

/** WGSL: `value` (Floats) goes to `buffer` at (`row`, `column`), on top of what is there where it is used by "add". */
export function storeTo(
  buffer: string,
  use: BufferUse,
  width: VectorWidth,
  { value, row = "row", column = "column" }: { value: string; row?: string; column?: string },
): string {
  const [access, type] = use.split(" ");
  const place = vectorAt(buffer, row, column);
  const stored = vectorType(type, width);
  return access === "add" ? `${place} = ${stored}(Floats(${place}) + ${value});` : `${place} = ${stored}(${value});`;
}

/**
 * An entry point whose `body` runs once a vector of `width` elements, with `row` and `column` (u32; columns count vectors)
 * and what {@link floatsOf} declares. Parameters `rows`, `columns`.
 */
export function elementsHeader(width: VectorWidth, body: string): string {
  return /* wgsl */ `${floatsOf(width)}

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
  { like, width, params = {} }: { like: Tensor; width: VectorWidth; params?: { readonly [name: string]: number } },
): void {
  const { rows } = like;
  const columns = like.columns / width;
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
  const rows = present[0].rows;
  const most = rowsPerBinding(backend, present);
  if (rows <= most) return body(tensors, 0);
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const parts = Object.entries(tensors).map(([name, tensor]) => [name, tensor?.rowsOf(first, count)]);
    body(Object.fromEntries(parts) as T, first);
  }
}

/** Rows of each of these tensors that a binding holds at the least. */
export function rowsPerBinding(backend: WebGpuBackend, tensors: readonly Tensor[]): number {
  const rowBytes = Math.max(1, ...tensors.map(({ rowStride, dtype }) => rowStride * BYTES_PER_ELEMENT[dtype]));
  // Room for the 256 bytes to which a binding is aligned.
  return Math.max(1, Math.floor((backend.maxBindingBytes - 512) / rowBytes));
}
