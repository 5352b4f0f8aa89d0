// What expertMlp does with rows on the WebGPU backend between its products: gathers and combines them, and the gradient of
// the gated unit.
import type { BufferUse, KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  SIGMOID,
  dispatchElements,
  elementsHeader,
  floatsOf,
  gradientUse,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
} from "../webgpu-elements.ts";
import type { Sorted } from "./webgpu-sort.ts";

/** Threads that share a row. */
const THREADS = 128;

/** Rows of tokens, one a place; zeros where no pair is. */
export function gatherTokens(backend: WebGpuBackend, x: Tensor, { order }: Sorted, topK: number): Tensor {
  const rows = emptyTensor(backend, [order.size, x.columns], x.dtype);
  const width = vectorWidthOf(x, rows);
  dispatchElements(
    backend,
    gather({ type: x.dtype, width }),
    { x, order, rows },
    { like: rows, width, params: { topK } },
  );
  return rows;
}

const gather: KernelFamily<{ type: string; width: VectorWidth }> = defineKernel<{ type: string; width: VectorWidth }>(
  "gatherTokens",
  [
    { type: "f32", width: 4 },
    { type: "f16", width: 1 },
  ],
  ({ type, width }) => ({
    buffers: {
      x: `read ${vectorType(type, width)}`,
      order: "read u32",
      rows: `write ${vectorType(type, width)}`,
    },
    params: ["rows", "columns", "topK"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  let next = order[params.order_at + row];
  var value = Floats(0);
  if (next > 0u) { value = Floats(${vectorAt("x", "(next - 1u) / params.topK")}); }
  ${storeTo("rows", `write ${type}`, width, { value: "value" })}`,
    ),
  }),
);

/** y[token] (+)= sum over slots of gate (1 where there are none) times the row at the pair's place. */
export function combine(
  backend: WebGpuBackend,
  { rows, places }: { rows: Tensor; places: Tensor },
  y: Tensor,
  { gates, topK, use }: { gates: Tensor | undefined; topK: number; use: BufferUse },
): void {
  const width = vectorWidthOf(rows, y);
  const kernel = combineRows({ rows: rows.dtype, gates: gates !== undefined, y: use, width });
  dispatchElements(backend, kernel, { rows, places, y, ...(gates && { gates }) }, { like: y, width, params: { topK } });
}

type CombineSpec = {
  readonly rows: string;
  readonly gates: boolean;
  readonly y: BufferUse;
  readonly width: VectorWidth;
};

const combineRows: KernelFamily<CombineSpec> = defineKernel<CombineSpec>(
  "combineExperts",
  [
    { rows: "f32", gates: true, y: "write f32", width: 4 },
    { rows: "f16", gates: false, y: "add f16", width: 1 },
  ],
  ({ rows, gates, y, width }) => ({
    buffers: {
      rows: `read ${vectorType(rows, width)}`,
      places: "read u32",
      ...(gates && { gates: "read f32" }),
      y: vectorUse(y, width),
    },
    params: ["rows", "columns", "topK"],
    body: elementsHeader(
      width,
      /* wgsl */ `
  var sum = Floats(0);
  for (var slot = 0u; slot < params.topK; slot++) {
    let pair = row * params.topK + slot;
    let place = places[params.places_at + pair];
    sum += ${gates ? "gates[params.gates_at + pair] * " : ""}Floats(${vectorAt("rows", "place")});
  }
  ${storeTo("y", y, width, { value: "sum" })}`,
    ),
  }),
);

/** Inputs and outputs of {@link gateBackward}, rows by places; `gradGates` by pairs. */
export interface GateRows {
  readonly uz: Tensor;
  readonly q: Tensor;
  readonly order: Tensor;
  readonly gates: Tensor;
  readonly gh: Tensor;
  readonly gradUZ: Tensor;
  readonly gradGates: Tensor | undefined;
}

/**
 * With h = u silu(z) and g the gate of a place's pair: gh = g h; gradGates[pair] (+)= q.h; gradUZ = the gradients of u and z
 * when that of h is g q. Places without a pair get zeros.
 */
export function gateBackward(backend: WebGpuBackend, { gradGates, ...rows }: GateRows): void {
  const { q, gates } = rows;
  const width = vectorWidthOf(rows.uz, q, rows.gh, rows.gradUZ);
  const kernel = gateRows({ type: q.dtype, gradGates: gradientUse(backend, gradGates), width });
  const params = { rows: q.rows, columns: q.columns / width, topK: gates.columns };
  backend.dispatch(kernel, { ...rows, ...(gradGates && { gradGates }) }, params, groupsFor(q.rows, 1));
}

type GateSpec = { readonly type: string; readonly gradGates: BufferUse | undefined; readonly width: VectorWidth };

const gateRows: KernelFamily<GateSpec> = defineKernel<GateSpec>(
  "expertGateBackward",
  [
    { type: "f32", gradGates: "write f32", width: 4 },
    { type: "f16", gradGates: "add f32", width: 1 },
    { type: "f32", gradGates: undefined, width: 1 },
  ],
  ({ type, gradGates, width }) => ({
    buffers: {
      uz: `read ${vectorType(type, width)}`,
      q: `read ${vectorType(type, width)}`,
      order: "read u32",
      gates: "read f32",
      gh: `write ${vectorType(type, width)}`,
      gradUZ: `write ${vectorType(type, width)}`,
      ...(gradGates && { gradGates }),
    },
    params: ["rows", "columns", "topK"],
    body: /* wgsl */ `${floatsOf(width)}
${SIGMOID}
var<workgroup> sums: array<f32, ${THREADS}>;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) { return; }
  let next = order[params.order_at + row];
  let pair = max(next, 1u) - 1u;
  let gate = select(0.0, gates[params.gates_at + pair], next > 0u);
  var sum = 0.0;
  for (var column = thread; column < params.columns; column += ${THREADS}u) {
    var u = Floats(0);
    var z = Floats(0);
    var flow = Floats(0);
    if (next > 0u) {
      u = Floats(${vectorAt("uz")});
      z = Floats(${vectorAt("uz", "row", "column + params.columns")});
      flow = Floats(${vectorAt("q")});
    }
    let s = sigmoid(z);
    let h = u * z * s;
    sum += sum_of(flow * h);
    flow *= gate;
    ${storeTo("gh", `write ${type}`, width, { value: "gate * h" })}
    ${storeTo("gradUZ", `write ${type}`, width, { value: "flow * z * s" })}
    ${storeTo("gradUZ", `write ${type}`, width, { value: "flow * u * s * (1 + z * (1 - s))", column: "column + params.columns" })}
  }
  ${gradGates ? addGradGate(gradGates) : ""}
}`,
  }),
);

function addGradGate(use: BufferUse): string {
  return /* wgsl */ `sums[thread] = sum;
  workgroupBarrier();
  for (var half = ${THREADS / 2}u; half > 0u; half /= 2u) {
    if (thread < half) { sums[thread] += sums[thread + half]; }
    workgroupBarrier();
  }
  if (thread == 0u && next > 0u) {
    let at = params.gradGates_at + pair / params.topK * params.gradGates_stride + pair % params.topK;
    gradGates[at] ${use.startsWith("add") ? "+=" : "="} sums[0];
  }`;
}
