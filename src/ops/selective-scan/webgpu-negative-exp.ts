// negativeExp on the WebGPU backend: element by element.
import type { BufferUse, KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
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

/** y = -exp(x). */
export function forward(backend: WebGpuBackend, x: Tensor, y: Tensor): void {
  splitRows(backend, { x, y }, (parts) => {
    const width = vectorWidthOf(parts.x, parts.y);
    dispatchElements(backend, negativeExp({ width }), parts, { like: parts.y, width });
  });
}

/** gradX += gradY · y. */
export function backward(backend: WebGpuBackend, y: Tensor, gradY: Tensor, gradX: Tensor): void {
  const use = gradientUse(backend, gradX);
  splitRows(backend, { y, gradY, gradX }, (parts) => {
    const width = vectorWidthOf(parts.y, parts.gradY, parts.gradX);
    dispatchElements(backend, negativeExpBackward({ width, use }), parts, { like: parts.y, width });
  });
}

const negativeExp: KernelFamily<{ width: VectorWidth }> = defineKernel<{ width: VectorWidth }>(
  "negativeExp",
  [{ width: 1 }, { width: 4 }],
  ({ width }) => ({
    buffers: { x: `read ${vectorType("f32", width)}`, y: `write ${vectorType("f32", width)}` },
    params: ["rows", "columns"],
    body: elementsHeader(width, `  ${storeTo("y", "write f32", width, { value: `-exp(${vectorAt("x")})` })}`),
  }),
);

type BackwardSpec = { readonly width: VectorWidth; readonly use: BufferUse };

const negativeExpBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "negativeExpBackward",
  [
    { width: 1, use: "add f32" },
    { width: 4, use: "write f32" },
  ],
  ({ width, use }) => ({
    buffers: {
      y: `read ${vectorType("f32", width)}`,
      gradY: `read ${vectorType("f32", width)}`,
      gradX: vectorUse(use, width),
    },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      `  ${storeTo("gradX", use, width, { value: `${vectorAt("gradY")} * ${vectorAt("y")}` })}`,
    ),
  }),
);
