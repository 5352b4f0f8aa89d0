// add on the WebGPU backend.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  dispatchElements,
  elementsHeader,
  gradientUse,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { AddInputs, AddOutputs } from "./index.ts";

export function forward(
  { inputs: { a, b }, outputs: { y } }: ForwardCall<AddInputs, AddOutputs, object>,
  backend: WebGpuBackend,
): void {
  splitRows(backend, { a, b, y }, (parts) => {
    const width = vectorWidthOf(parts.a, parts.b, parts.y);
    const kernel = addElements({ a: a.dtype, b: b.dtype, y: y.dtype, width });
    dispatchElements(backend, kernel, parts, { like: parts.y, width });
  });
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
  const use = gradientUse(backend, to);
  splitRows(backend, { source: from, to }, (parts) => {
    const width = vectorWidthOf(parts.source, parts.to);
    const kernel = addInPlace({ source: from.dtype, to: use, width });
    dispatchElements(backend, kernel, parts, { like: parts.to, width });
  });
}

const addElements = defineKernel<{ a: string; b: string; y: string; width: VectorWidth }>(
  "add",
  [
    { a: "f32", b: "f32", y: "f32", width: 4 },
    { a: "f32", b: "f16", y: "f32", width: 1 },
  ],
  ({ a, b, y, width }) => ({
    buffers: {
      a: `read ${vectorType(a, width)}`,
      b: `read ${vectorType(b, width)}`,
      y: `write ${vectorType(y, width)}`,
    },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  let sum = Floats(${vectorAt("a")}) + Floats(${vectorAt("b")});
  ${storeTo("y", `write ${y}`, width, { value: "sum" })}`,
    ),
  }),
);

const addInPlace = defineKernel<{ source: string; to: BufferUse; width: VectorWidth }>(
  "addTo",
  [
    { source: "f32", to: "add f32", width: 4 },
    { source: "f16", to: "write f32", width: 1 },
  ],
  ({ source, to, width }) => ({
    buffers: { source: `read ${vectorType(source, width)}`, to: vectorUse(to, width) },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  let value = Floats(${vectorAt("source")});
  ${storeTo("to", to, width, { value: "value" })}`,
    ),
  }),
);
