// Sums of what the workgroups of the backward scan leave behind: always in one order, never by atomics.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { dispatchElements, elementsHeader } from "../webgpu-elements.ts";

/**
 * Where in `partials` the parts of element (row, column) lie:
 * `start + (column / width) groupStep + row rowStep + column % width + k sumStep`, k = 0 .. count - 1.
 */
export interface PartialSums {
  readonly start: number;
  readonly width: number;
  readonly groupStep: number;
  readonly rowStep: number;
  readonly sumStep: number;
  readonly count: number;
}

/** to += the sums of its parts; or written, where it has no content yet. */
export function addSums(backend: WebGpuBackend, partials: Tensor, to: Tensor, sums: PartialSums): void {
  const { start, width, groupStep, rowStep, sumStep, count } = sums;
  const kernel = scanSums({ type: to.dtype, adds: backend.hasContent(to) });
  const params = { start, width, group_step: groupStep, row_step: rowStep, sum_step: sumStep, count };
  dispatchElements(backend, kernel, { partials, to }, { like: to, width: 1, params });
}

const scanSums: KernelFamily<{ type: string; adds: boolean }> = defineKernel(
  "scanSums",
  [
    { type: "f32", adds: true },
    { type: "f16", adds: false },
  ],
  ({ type, adds }) => ({
    buffers: { partials: "read f32", to: `${adds ? "add" : "write"} ${type}` },
    params: ["rows", "columns", "start", "width", "group_step", "row_step", "sum_step", "count"],
    body: elementsHeader(
      1,
      /* wgsl */ `
  let first = params.start + (column / params.width) * params.group_step + row * params.row_step + column % params.width;
  var sums = vec4f();
  var k = 0u;
  for (; k + 4u <= params.count; k += 4u) {
    let at = first + k * params.sum_step;
    sums += vec4f(
      partials[at],
      partials[at + params.sum_step],
      partials[at + 2u * params.sum_step],
      partials[at + 3u * params.sum_step]);
  }
  for (; k < params.count; k++) { sums.x += partials[first + k * params.sum_step]; }
  let sum = (sums.x + sums.y) + (sums.z + sums.w);
  let at = params.to_at + row * params.to_stride + column;
  to[at] = ${type}(${adds ? "f32(to[at]) + " : ""}sum);`,
    ),
  }),
);
