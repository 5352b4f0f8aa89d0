// gru on the WebGPU backend: binds ../recurrent/webgpu.ts and ../recurrent/webgpu-gradient.ts.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { backwardRecurrent } from "../recurrent/webgpu-gradient.ts";
import { forwardRecurrent } from "../recurrent/webgpu.ts";
import { backwardOf, forwardOf } from "./call.ts";
import type { GruInputs, GruOutputs } from "./index.ts";

export function forward(
  call: ForwardCall<GruInputs, GruOutputs, object>,
  backend: WebGpuBackend,
  bySteps?: boolean,
): void {
  forwardRecurrent(backend, forwardOf(call), bySteps);
}

export function backward(
  call: BackwardCall<GruInputs, GruOutputs, object>,
  backend: WebGpuBackend,
  bySteps?: boolean,
): void {
  const wanted = backwardOf(call);
  if (wanted) backwardRecurrent(backend, wanted, bySteps);
}
