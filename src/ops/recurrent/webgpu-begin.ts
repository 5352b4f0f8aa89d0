// The state before the first token of every sequence.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { WORKGROUP } from "../webgpu-elements.ts";

export type BeginSpec = {
  /** Whether there are initialH, initialC and documentStarts; where there is none, zeros. */
  readonly h: boolean;
  readonly c: boolean;
  readonly starts: boolean;
};

/** before[sequence, slot 0] = h, and behind it c; zeros where a document starts. */
export const recurrentBegin: KernelFamily<BeginSpec> = defineKernel<BeginSpec>(
  "recurrentBegin",
  [
    { h: true, c: true, starts: true },
    { h: false, c: false, starts: false },
  ],
  ({ h, c, starts }) => ({
    buffers: {
      ...(h && { initialH: "read f32" as const }),
      ...(c && { initialC: "read f32" as const }),
      ...(starts && { starts: "read i32" as const }),
      before: "write f32",
    },
    params: ["batch", "slots", "dHidden", "columns"],
    body: /* wgsl */ `
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (i >= params.batch * params.columns) { return; }
  let sequence = i / params.columns;
  let column = i % params.columns;
  var value = 0.0;
  ${h ? "if (column < params.dHidden) { value = initialH[params.initialH_at + sequence * params.initialH_stride + column]; }" : ""}
  ${c ? "if (column >= params.dHidden) { value = initialC[params.initialC_at + sequence * params.initialC_stride + column - params.dHidden]; }" : ""}
  ${starts ? "if (starts[params.starts_at + sequence * params.starts_stride] != 0) { value = 0.0; }" : ""}
  before[params.before_at + sequence * params.slots * params.before_stride + column] = value;
}`,
  }),
);
