// expandRows on the WebGPU backend: element by element; its gradient by the sums of ../webgpu-column-sums.ts.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { addColumnSums } from "../webgpu-column-sums.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  dispatchElements,
  elementsHeader,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { ExpandRowsInputs, ExpandRowsOptions, ExpandRowsOutputs } from "./index.ts";

export function forward(
  { inputs, outputs: { y } }: ForwardCall<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions>,
  backend: WebGpuBackend,
): void {
  splitRows(backend, { y }, (parts) => {
    const width = vectorWidthOf(inputs.row, parts.y);
    const kernel = copyRow({ source: inputs.row.dtype, y: y.dtype, width });
    dispatchElements(backend, kernel, { source: inputs.row, ...parts }, { like: parts.y, width });
  });
}

export function backward(
  { gradOutputs: { y }, gradInputs }: BackwardCall<ExpandRowsInputs, ExpandRowsOutputs, ExpandRowsOptions>,
  backend: WebGpuBackend,
): void {
  if (y && gradInputs.row) addColumnSums(backend, y, gradInputs.row);
}

type CopySpec = { source: string; y: string; width: VectorWidth };

const copyRow: KernelFamily<CopySpec> = defineKernel<CopySpec>(
  "expandRows",
  [
    { source: "f32", y: "f32", width: 4 },
    { source: "f32", y: "f16", width: 1 },
  ],
  ({ source, y, width }) => ({
    buffers: { source: `read ${vectorType(source, width)}`, y: `write ${vectorType(y, width)}` },
    params: ["rows", "columns"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  ${storeTo("y", `write ${y}`, width, { value: `Floats(${vectorAt("source", "0u")})` })}`,
    ),
  }),
);
