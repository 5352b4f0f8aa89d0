// gru on the WebGPU backend: binds ../recurrent/webgpu.ts and ../recurrent/webgpu-gradient.ts.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { backwardRecurrent } from "../recurrent/webgpu-gradient.ts";
import { forwardRecurrent } from "../recurrent/webgpu.ts";
import type { GruInputs, GruOutputs } from "./index.ts";

const NO_C = { initialC: undefined, finalC: undefined } as const;

export function forward(
  { inputs, outputs, saved }: ForwardCall<GruInputs, GruOutputs, object>,
  backend: WebGpuBackend,
  bySteps?: boolean,
): void {
  const { gates, weight, bias, initialH, documentStarts } = inputs;
  const { activated, before } = saved ?? {};
  const bySequence = { gates, initialH, starts: documentStarts, ...outputs, ...NO_C, activated, before };
  forwardRecurrent(backend, { cell: "gru", weight, bias, bySequence }, bySteps);
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<GruInputs, GruOutputs, object>,
  backend: WebGpuBackend,
  bySteps?: boolean,
): void {
  const { y: gradY, finalH: gradFinalH } = gradOutputs;
  if (!gradY && !gradFinalH) return;
  const { activated, before } = saved;
  const bySequence = {
    activated,
    before,
    starts: inputs.documentStarts,
    gradY,
    gradFinalH,
    gradFinalC: undefined,
    gradGates: gradInputs.gates,
    gradInitialH: gradInputs.initialH,
    gradInitialC: undefined,
  };
  const call = { weight: inputs.weight, gradWeight: gradInputs.weight, gradBias: gradInputs.bias, bySequence };
  backwardRecurrent(backend, { cell: "gru", ...call }, bySteps);
}
