// add on the WebGPU backend.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { dispatchElements, elementsHeader, splitRows } from "../webgpu-elements.ts";
import type { AddInputs, AddOutputs } from "./index.ts";

export function forward(
  { inputs: { a, b }, outputs: { y } }: ForwardCall<AddInputs, AddOutputs, object>,
  backend: WebGpuBackend,
): void {
  splitRows(backend, { a, b, y }, (parts) =>
    dispatchElements(backend, addElements({ a: a.dtype, b: b.dtype, y: y.dtype }), parts, parts.y),
  );
}

/** grad.a += grad.y; grad.b += grad.y. */
export function backward(
  { gradOutputs: { y }, gradInputs }: BackwardCall<AddInputs, AddOutputs, object>,
  backend: WebGpuBackend,
): void {
  for (const to of [gradInputs.a, gradInputs.b]) if (to && y) addTo(backend, y, to);
}

/** to += from; a copy where `to` has no content yet. */
export function addTo(backend: WebGpuBackend, from: Tensor, to: Tensor): void {
  const adds = backend.hasContent(to);
  splitRows(backend, { source: from, to }, (parts) =>
    dispatchElements(backend, addInPlace({ source: from.dtype, to: to.dtype, adds }), parts, parts.to),
  );
}

const addElements: KernelFamily<{ a: string; b: string; y: string }> = defineKernel(
  "add",
  [
    { a: "f32", b: "f32", y: "f32" },
    { a: "f32", b: "f16", y: "f32" },
  ],
  ({ a, b, y }) => ({
    buffers: { a: `read ${a}`, b: `read ${b}`, y: `write ${y}` },
    params: ["rows", "columns"],
    body: elementsHeader(/* wgsl */ `
  y[params.y_at + row * params.y_stride + column] = ${y}(
    f32(a[params.a_at + row * params.a_stride + column]) + f32(b[params.b_at + row * params.b_stride + column]));`),
  }),
);

const addInPlace: KernelFamily<{ source: string; to: string; adds: boolean }> = defineKernel(
  "addTo",
  [
    { source: "f32", to: "f32", adds: true },
    { source: "f16", to: "f32", adds: false },
  ],
  ({ source, to, adds }) => ({
    buffers: { source: `read ${source}`, to: adds ? `add ${to}` : `write ${to}` },
    params: ["rows", "columns"],
    body: elementsHeader(/* wgsl */ `
  let at = params.to_at + row * params.to_stride + column;
  let value = f32(source[params.source_at + row * params.source_stride + column]);
  to[at] = ${to}(${adds ? "f32(to[at]) + " : ""}value);`),
  }),
);
