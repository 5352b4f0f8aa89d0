// routeExperts on the WebGPU backend: a thread a token, then sums over the tokens of a workgroup, then over workgroups.
import type { BufferUse, KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { gradientUse, rowsPerBinding, splitRows } from "../webgpu-elements.ts";
import type { RouteExpertsInputs, RouteExpertsOptions, RouteExpertsOutputs } from "./index.ts";

/** Tokens of a workgroup. */
const ROWS = 64;
/** Of the workgroup that finds the balance: experts at a time, and threads that share the partial sums of one. */
const SPAN = 32;
const LANES = 8;

export function forward(
  call: ForwardCall<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions>,
  backend: WebGpuBackend,
): void {
  const { logits } = call.inputs;
  const { gates, choices, balance } = call.outputs;
  const { topK } = call.options;
  const { rows, columns: experts } = logits;
  scope(() => {
    const probabilities = call.saved?.probabilities ?? emptyTensor(backend, [rows, experts]);
    const shares = call.saved?.shares ?? emptyTensor(backend, [experts]);
    const groups = Math.ceil(rows / ROWS);
    const partials = emptyTensor(backend, [groups, 2 * experts]);
    const most = Math.max(1, Math.floor(rowsPerBinding(backend, [logits, probabilities]) / ROWS)) * ROWS;
    for (let first = 0; first < rows; first += most) {
      const count = Math.min(most, rows - first);
      const buffers = {
        logits: logits.rowsOf(first, count),
        gates: gates.rowsOf(first, count),
        choices: choices.rowsOf(first, count),
        probabilities: probabilities.rowsOf(first, count),
        partials: partials.rowsOf(first / ROWS, Math.ceil(count / ROWS)),
      };
      backend.dispatch(route({}), buffers, { rows: count, experts, topK }, groupsFor(count, ROWS));
    }
    const params = { experts, parts: groups, rows, topK };
    backend.dispatch(findBalance({}), { partials, shares, balance }, params, [1]);
  });
}

export function backward(
  call: BackwardCall<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions>,
  backend: WebGpuBackend,
): void {
  const { gates, choices } = call.outputs;
  const { probabilities, shares } = call.saved;
  const { gates: gradGates, balance: gradBalance } = call.gradOutputs;
  const { logits: gradLogits } = call.gradInputs;
  const { topK } = call.options;
  if (!gradLogits || !(gradGates || gradBalance)) return;
  const spec = {
    gradGates: gradGates !== undefined,
    gradBalance: gradBalance !== undefined,
    gradLogits: gradientUse(backend, gradLogits),
  };
  const ofGates = gradGates && { gates, choices, gradGates };
  const whole = gradBalance && { shares, gradBalance };
  splitRows(backend, { probabilities, gradLogits, ...ofGates }, (parts) => {
    const { rows, columns: experts } = parts.gradLogits;
    const params = { rows, experts, topK, tokens: gradLogits.rows };
    backend.dispatch(routeBackward(spec), { ...parts, ...whole }, params, groupsFor(rows, ROWS));
  });
}

const ENTRY = /* wgsl */ `
@compute @workgroup_size(${ROWS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first = (group.x + group.y * groups.x) * ${ROWS}u;
  let row = first + thread;`;

const ROUTE_ROW = /* wgsl */ `
fn logit_of(row: u32, expert: u32) -> f32 { return logits[params.logits_at + row * params.logits_stride + expert]; }

/** Probabilities of a row, and the topK largest: each the first of those that come behind the one before it. */
fn route_row(row: u32) {
  var largest = logit_of(row, 0u);
  for (var e = 1u; e < params.experts; e++) { largest = max(largest, logit_of(row, e)); }
  var sum = 0.0;
  for (var e = 0u; e < params.experts; e++) { sum += exp(logit_of(row, e) - largest); }
  let p_at = params.probabilities_at + row * params.experts;
  for (var e = 0u; e < params.experts; e++) { probabilities[p_at + e] = exp(logit_of(row, e) - largest) / sum; }
  let at = row * params.topK;
  var last = 0.0;
  var last_expert = 0u;
  var chosen = 0.0;
  for (var slot = 0u; slot < params.topK; slot++) {
    // Where logits are no numbers: any expert.
    var best = slot;
    var best_logit = 0.0;
    var is_found = false;
    for (var e = 0u; e < params.experts; e++) {
      let logit = logit_of(row, e);
      let is_left = slot == 0u || logit < last || (logit == last && e > last_expert);
      if (is_left && (!is_found || logit > best_logit)) {
        best = e;
        best_logit = logit;
        is_found = true;
      }
    }
    last = best_logit;
    last_expert = best;
    let p = probabilities[p_at + best];
    chosen += p;
    choices[params.choices_at + at + slot] = best;
    gates[params.gates_at + at + slot] = p;
  }
  if (params.topK == 1u) { return; }
  for (var slot = 0u; slot < params.topK; slot++) { gates[params.gates_at + at + slot] /= chosen; }
}`;

/** Of each workgroup, partials: the sum of the probabilities of each expert, then how often each was chosen. */
const route: KernelFamily<Record<string, never>> = defineKernel<Record<string, never>>("routeExperts", [{}], () => ({
  buffers: {
    logits: "read f32",
    gates: "write f32",
    choices: "write u32",
    probabilities: "write f32",
    partials: "write f32",
  },
  params: ["rows", "experts", "topK"],
  body: /* wgsl */ `${ROUTE_ROW}
${ENTRY}
  if (row < params.rows) { route_row(row); }
  storageBarrier();
  let end = min(first + ${ROWS}u, params.rows);
  let to = params.partials_at + first / ${ROWS}u * params.partials_stride;
  for (var e = thread; e < params.experts && first < params.rows; e += ${ROWS}u) {
    var sum = 0.0;
    for (var r = first; r < end; r++) { sum += probabilities[params.probabilities_at + r * params.experts + e]; }
    var count = 0u;
    for (var i = first * params.topK; i < end * params.topK; i++) { count += u32(choices[params.choices_at + i] == e); }
    partials[to + e] = sum;
    partials[to + params.experts + e] = f32(count);
  }
}`,
}));

/** shares and balance from the partial sums, in one workgroup and always in one order. */
const findBalance: KernelFamily<Record<string, never>> = defineKernel<Record<string, never>>(
  "routeBalance",
  [{}],
  () => ({
    buffers: { partials: "read f32", shares: "write f32", balance: "write f32" },
    params: ["experts", "parts", "rows", "topK"],
    body: /* wgsl */ `
const SPAN = ${SPAN}u;
const LANES = ${LANES}u;
/** Sums of probabilities and counts of choices. */
var<workgroup> sums: array<vec2f, SPAN * LANES>;

@compute @workgroup_size(${SPAN * LANES})
fn main(@builtin(local_invocation_index) thread: u32) {
  let lane = thread / SPAN;
  var all = 0.0;
  for (var first = 0u; first < params.experts; first += SPAN) {
    let e = first + thread % SPAN;
    var sum = vec2f();
    if (e < params.experts) {
      for (var part = lane; part < params.parts; part += LANES) {
        let at = params.partials_at + part * params.partials_stride + e;
        sum += vec2f(partials[at], partials[at + params.experts]);
      }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if (lane == 0u && e < params.experts) {
      for (var other = 1u; other < LANES; other++) { sum += sums[other * SPAN + thread]; }
      let share = sum.y / f32(params.rows * params.topK);
      shares[params.shares_at + e] = share;
      sums[thread].x = share * sum.x / f32(params.rows);
    }
    workgroupBarrier();
    if (thread == 0u) {
      for (var i = 0u; i < min(SPAN, params.experts - first); i++) { all += sums[i].x; }
    }
    workgroupBarrier();
  }
  if (thread == 0u) { balance[params.balance_at] = all * f32(params.experts); }
}`,
  }),
);

type BackwardSpec = { readonly gradGates: boolean; readonly gradBalance: boolean; readonly gradLogits: BufferUse };

const routeBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "routeExpertsBackward",
  [
    { gradGates: true, gradBalance: true, gradLogits: "add f32" },
    { gradGates: false, gradBalance: true, gradLogits: "write f32" },
    { gradGates: true, gradBalance: false, gradLogits: "write f32" },
  ],
  ({ gradGates, gradBalance, gradLogits }) => ({
    buffers: {
      probabilities: "read f32",
      gradLogits,
      ...(gradGates && {
        gates: "read f32",
        choices: "read u32",
        gradGates: "read f32",
      }),
      ...(gradBalance && { shares: "read f32", gradBalance: "read f32" }),
    },
    params: ["rows", "experts", "topK", "tokens"],
    body: /* wgsl */ `
${ENTRY}
  if (row >= params.rows) { return; }
  let p_at = params.probabilities_at + row * params.experts;
  let grad_at = params.gradLogits_at + row * params.gradLogits_stride;
  // Sum of the gates times their gradients, and mean of the shares.
  var flow = 0.0;
  var mean = 0.0;
  var pull = 0.0;
  ${
    gradGates
      ? /* wgsl */ `let at = row * params.topK;
  let flow_at = params.gradGates_at + row * params.gradGates_stride;
  for (var slot = 0u; slot < params.topK; slot++) { flow += gates[params.gates_at + at + slot] * gradGates[flow_at + slot]; }`
      : ""
  }
  ${
    gradBalance
      ? /* wgsl */ `pull = gradBalance[params.gradBalance_at] * f32(params.experts) / f32(params.tokens);
  for (var e = 0u; e < params.experts; e++) { mean += probabilities[p_at + e] * shares[params.shares_at + e]; }`
      : ""
  }
  let all = select(0.0, flow, params.topK == 1u);
  for (var e = 0u; e < params.experts; e++) {
    let share = ${gradBalance ? "shares[params.shares_at + e]" : "0.0"};
    let value = probabilities[p_at + e] * (pull * (share - mean) - all);
    gradLogits[grad_at + e] ${gradLogits.startsWith("add") ? "+=" : "="} value;
  }
  ${
    gradGates
      ? /* wgsl */ `for (var slot = 0u; slot < params.topK; slot++) {
    let push = gradGates[flow_at + slot] - select(flow, 0.0, params.topK == 1u);
    gradLogits[grad_at + choices[params.choices_at + at + slot]] += gates[params.gates_at + at + slot] * push;
  }`
      : ""
  }
}`,
  }),
);
