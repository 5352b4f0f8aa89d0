// advanceLengths on the WebGPU backend.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { ForwardCall } from "../../tensor/define-op.ts";
import { WORKGROUP } from "../webgpu-elements.ts";
import type { AdvanceLengthsInputs, AdvanceLengthsOptions, AdvanceLengthsOutputs } from "./index.ts";

export function forward(
  {
    inputs: { lengths },
    options: { by },
  }: ForwardCall<AdvanceLengthsInputs, AdvanceLengthsOutputs, AdvanceLengthsOptions>,
  backend: WebGpuBackend,
): void {
  // The bits of a negative number, as an unsigned one.
  backend.dispatch(
    addToLengths({}),
    { lengths },
    { count: lengths.size, by: by >>> 0 },
    groupsFor(lengths.size, WORKGROUP),
  );
}

type NoSpec = Record<string, never>;

const addToLengths: KernelFamily<NoSpec> = defineKernel<NoSpec>("advanceLengths", [{}], () => ({
  buffers: { lengths: "add i32" },
  params: ["count", "by"],
  body: /* wgsl */ `
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.count) { lengths[params.lengths_at + id.x] += bitcast<i32>(params.by); }
}`,
}));
