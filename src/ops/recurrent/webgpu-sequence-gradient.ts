// Many steps of a recurrence backwards in one dispatch, for states that are small; see webgpu-sequence.ts.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { GATES } from "./cells.ts";
import { cellGradientOf } from "./webgpu-cells.ts";
import type { GradientSpec } from "./webgpu-gradient-cells.ts";
import { GRADIENT_PARAMS, gradientAccess, gradientBuffers } from "./webgpu-gradient-cells.ts";
import type { SequenceTile } from "./webgpu-sequence.ts";
import { forKept, gateWeights, keptOf, SEQUENCE_TILE_SAMPLES } from "./webgpu-sequence.ts";

export type SequenceGradientSpec = GradientSpec & SequenceTile;

/** Tokens [first, end) of a sequence a workgroup, from the last to the first; there is a token `end`. */
export const recurrentSequenceGradient: KernelFamily<SequenceGradientSpec> = defineKernel<SequenceGradientSpec>(
  "recurrentSequenceGradient",
  [
    { cell: "lstm", gradY: "f32", starts: true, gradGates: "add f32", ...SEQUENCE_TILE_SAMPLES[0] },
    { cell: "gru", gradY: "f16", starts: false, gradGates: "write f16", ...SEQUENCE_TILE_SAMPLES[1] },
  ],
  ({ threads, units, kept, ...spec }) => {
    const tile = { threads, units, kept };
    const pulledOf = (gate: number): string =>
      gate < GATES[spec.cell] ? `pulled[at + ${gate}u * params.dHidden]` : "0.0";
    return {
      buffers: { weight: "read f32", ...gradientBuffers(spec) },
      params: ["first", "end", ...GRADIENT_PARAMS],
      body: /* wgsl */ `${keptOf(tile)}${cellGradientOf(spec.cell)}${gradientAccess(spec)}${gateWeights(spec.cell)}
// The gradients of the gates of the token behind, by unit; and sums of lanes.
var<workgroup> behind: array<vec4f, LANES * KEPT>;
var<workgroup> parts: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let sequence = group.x + group.y * groups.x;
  if (sequence >= params.batch) { return; }
  let unit = thread % UNITS;
  let from_unit = (thread / UNITS) * KEPT;
  ${forKept(tile, (i) => `kept${i} = gate_weights(from_unit + ${i}u, unit);`)}
  let is_unit = thread < params.dHidden;
  let carry_at = params.carry_at + sequence * params.carry_stride + thread;
  var carried = 0.0;
  var keep = 1.0;
  var token = Token(vec4f(), 0.0, 0.0, 0.0);
  if (is_unit) {
    let at = params.pulled_at + (sequence * params.length + params.end) * params.pulled_stride + thread;
    behind[thread] = vec4f(${[0, 1, 2, 3].map(pulledOf).join(", ")});
    carried = carry[carry_at];
    keep = keep_of(sequence, params.end);
    token = token_of(sequence, params.end - 1u, thread);
  }
  for (var t = params.end; t > params.first; t--) {
    workgroupBarrier();
    var sum = 0.0;
    ${forKept(tile, (i) => `sum += dot(kept${i}, behind[from_unit + ${i}u]);`)}
    parts[thread] = sum;
    workgroupBarrier();
    if (is_unit) {
      for (var lane = 1u; lane < LANES; lane++) { sum += parts[lane * UNITS + thread]; }
      let now = token;
      // The next token's numbers are on their way during the next product.
      if (t > params.first + 1u) { token = token_of(sequence, t - 2u, thread); }
      let grad = cell_gradient(now.kept, now.h_before, now.c_before, sum * keep + now.grad_y, carried);
      store_gradient(sequence, t - 1u, thread, grad);
      keep = keep_of(sequence, t - 1u);
      carried = grad.carry * keep;
      behind[thread] = grad.pulled;
    }
  }
  if (is_unit) { carry[carry_at] = carried; }
}`,
    };
  },
);
