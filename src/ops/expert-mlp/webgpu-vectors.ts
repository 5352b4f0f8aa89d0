// expertMlp for a few tokens (decoding) on the WebGPU backend: nothing is sorted, each pair (token, slot) reads the weights
// of its expert row by row, shared out among the threads of a team. Two kernels.
import type { BufferUse, KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { floatsOf, vectorAt, vectorType, vectorWidthOf } from "../webgpu-elements.ts";
import type { ExpertMlpInputs, ExpertMlpOutputs } from "./index.ts";

/** Pairs up to which weights are read for each pair. */
export const MOST_VECTOR_PAIRS = 32;
/** Threads of a workgroup. */
const THREADS = 128;

export function forwardByVectors(backend: WebGpuBackend, inputs: ExpertMlpInputs, { y }: ExpertMlpOutputs): void {
  const { x, gates, choices, upGate, down } = inputs;
  const [experts, dModel, dInner] = down.shape;
  const [least, most] = backend.about.subgroupSize;
  const subgroups = backend.has("subgroups") && least === most && most >= 4 && most <= THREADS;
  const lanes = subgroups ? most : 32;
  const groups = (outputs: number): number => Math.ceil(outputs / (THREADS / lanes));
  const h = emptyTensor(backend, [gates.size, dInner]);
  const params = { experts, topK: gates.columns };
  const up = vectorWidthOf(x, upGate);
  backend.dispatch(
    expertUp({ x: x.dtype, weight: upGate.dtype, width: up, lanes, subgroups }),
    { x, choices, weight: upGate, h },
    { ...params, columns: dModel / up, outputs: dInner },
    [groups(dInner), gates.size],
  );
  const across = vectorWidthOf(h, down);
  backend.dispatch(
    expertDown({ weight: down.dtype, y: y.dtype, width: across, lanes, subgroups }),
    { h, choices, gates, weight: down, y },
    { ...params, columns: dInner / across, outputs: dModel },
    [groups(dModel), x.rows],
  );
  h.dispose();
}

type Team = { readonly width: VectorWidth; readonly lanes: number; readonly subgroups: boolean };

/** WGSL: types, `team_sum`, and the beginning of an entry point with `output`, `lane` and `second` (the pair or token). */
const header = ({ width, lanes, subgroups }: Team): string => /* wgsl */ `${floatsOf(width)}
const LANES = ${lanes}u;
${
  subgroups
    ? "fn team_sum(value: vec2f, thread: u32) -> vec2f { return subgroupAdd(value); }"
    : /* wgsl */ `
var<workgroup> partial: array<vec2f, ${THREADS}>;

fn team_sum(value: vec2f, thread: u32) -> vec2f {
  partial[thread] = value;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    if (thread % LANES < half) { partial[thread] += partial[thread + half]; }
    workgroupBarrier();
  }
  return partial[thread - thread % LANES];
}`
}
fn expert_of(pair: u32) -> u32 { return min(choices[params.choices_at + pair], params.experts - 1u); }

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let lane = thread % LANES;
  let wanted = group.x * ${THREADS / lanes}u + thread / LANES;
  let output = min(wanted, params.outputs - 1u);`;

const PARAMS = ["experts", "topK", "columns", "outputs"];

type UpSpec = Team & { readonly x: string; readonly weight: string };

/** h = u silu(z) of each pair. */
const expertUp: KernelFamily<UpSpec> = defineKernel<UpSpec>(
  "expertUp",
  [
    { x: "f32", weight: "f32", width: 4, lanes: 32, subgroups: true },
    { x: "f16", weight: "f16", width: 1, lanes: 32, subgroups: false },
  ],
  ({ x, weight, ...team }) => ({
    buffers: {
      x: `read ${vectorType(x, team.width)}`,
      choices: "read u32",
      weight: `read ${vectorType(weight, team.width)}`,
      h: "write f32",
    },
    params: PARAMS,
    body: /* wgsl */ `${header(team)}
  let pair = group.y;
  let row_u = expert_of(pair) * 2u * params.outputs + output;
  let row_z = row_u + params.outputs;
  var u = Floats(0);
  var z = Floats(0);
  for (var step = lane; step < params.columns; step += LANES) {
    let value = Floats(${vectorAt("x", "pair / params.topK", "step")});
    u += value * Floats(${vectorAt("weight", "row_u", "step")});
    z += value * Floats(${vectorAt("weight", "row_z", "step")});
  }
  let uz = team_sum(vec2f(sum_of(u), sum_of(z)), thread);
  if (lane == 0u && wanted < params.outputs) {
    h[params.h_at + pair * params.h_stride + output] = uz.x * uz.y / (1.0 + exp(min(-uz.y, 80.0)));
  }
}`,
  }),
);

type DownSpec = Team & { readonly weight: string; readonly y: string };

/** y = sum over the slots of a token. */
const expertDown: KernelFamily<DownSpec> = defineKernel<DownSpec>(
  "expertDown",
  [
    { weight: "f32", y: "f32", width: 4, lanes: 32, subgroups: true },
    { weight: "f16", y: "f16", width: 1, lanes: 32, subgroups: false },
  ],
  ({ weight, y, ...team }) => ({
    buffers: {
      h: `read ${vectorType("f32", team.width)}`,
      choices: "read u32",
      gates: "read f32",
      weight: `read ${vectorType(weight, team.width)}`,
      y: `write ${y}` as BufferUse,
    },
    params: PARAMS,
    body: /* wgsl */ `${header(team)}
  let token = group.y;
  var sum = Floats(0);
  for (var slot = 0u; slot < params.topK; slot++) {
    let pair = token * params.topK + slot;
    let row = expert_of(pair) * params.outputs + output;
    let gate = gates[params.gates_at + pair];
    for (var step = lane; step < params.columns; step += LANES) {
      sum += gate * Floats(${vectorAt("h", "pair", "step")}) * Floats(${vectorAt("weight", "row", "step")});
    }
  }
  let all = team_sum(vec2f(sum_of(sum), 0.0), thread);
  if (lane == 0u && wanted < params.outputs) { y[params.y_at + token * params.y_stride + output] = ${y}(all.x); }
}`,
  }),
);
