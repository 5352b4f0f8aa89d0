// Products of a few rows (decoding): each weight is read once, by as many bytes at a time as the device gives, and the
// terms of a sum are shared out among the threads of a team.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { KernelFamily, KernelSpec } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";
import type { OperandType } from "./webgpu-product.ts";

export interface VectorSpec extends EpilogueSpec, KernelSpec {
  /** Rows of x: one kernel for each count. */
  readonly rows: number;
  readonly a: "f32" | "f16";
  /** Whether x is read 4 elements at a time. */
  readonly aWide: boolean;
  readonly b: OperandType;
  /** Whether weights are read 16 bytes at a time. */
  readonly bWide: boolean;
  /** Threads of a team, and of a workgroup. */
  readonly lanes: number;
  readonly threads: number;
  /** Outputs of a team: x is read once for all of them. */
  readonly outputs: 1 | 2 | 4;
  /** A team is a subgroup and adds up as one; else through workgroup memory. */
  readonly subgroups: boolean;
}

/** Weights in 16 bytes. */
export const WEIGHTS_A_LOAD: Record<OperandType, number> = { f32: 4, f16: 8, int8: 16 };

const repeat = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join("\n");

/** Weights that a thread reads at a time: groups of 4. */
function groupsOf({ b, bWide }: VectorSpec): number {
  return bWide ? WEIGHTS_A_LOAD[b] / 4 : 1;
}

function weightUse({ b, bWide }: VectorSpec): BufferUse {
  if (!bWide) return `read ${b}`;
  return b === "f32" ? "read vec4<f32>" : "read vec4<u32>";
}

const UNPACK: Record<OperandType, (i: number) => string> = {
  f32: () => "loaded",
  f16: (i) => `vec4f(bitcast<vec4h>(loaded.${i === 0 ? "xy" : "zw"}))`,
  int8: (i) => `vec4f(unpack4xI8(loaded[${i}]))`,
};

/** WGSL: reads the weights of an output from `step` on into w_OUTPUT_0, ... */
function readWeights(spec: VectorSpec, output: number): string {
  const at = `params.b_at + output_${output} * params.b_stride + step`;
  if (spec.bWide)
    return `    let loaded_${output} = b[(${at}) / ${WEIGHTS_A_LOAD[spec.b]}u];
${repeat(groupsOf(spec), (i) => `    let w_${output}_${i} = ${UNPACK[spec.b](i).replaceAll("loaded", `loaded_${output}`)};`)}`;
  return `    let w_${output}_0 = read_b(${at}, step);`;
}

function narrowReader(name: "a" | "b"): string {
  return /* wgsl */ `
fn read_${name}(at: u32, step: u32) -> vec4f {
  var values = vec4f();
  for (var i = 0u; i < select(4u, params.steps, params.steps == 0u); i++) {
    if (step + i < params.steps) { values[i] = f32(${name}[at + i]); }
  }
  return values;
}`;
}

const WIDE_READER = /* wgsl */ `
fn read_a(at: u32, step: u32) -> vec4f {
  if (step >= params.steps) { return vec4f(); }
  return vec4f(a[at / 4u]);
}`;

function loop(spec: VectorSpec): string {
  const { rows, outputs, lanes } = spec;
  const groups = groupsOf(spec);
  return /* wgsl */ `
  for (var step = lane * ${groups * 4}u; step < params.steps; step += ${lanes * groups * 4}u) {
${repeat(outputs, (o) => readWeights(spec, o))}
${repeat(
  rows,
  (
    r,
  ) => `${repeat(groups, (g) => `    let x_${r}_${g} = read_a(params.a_at + ${r}u * params.a_stride + step + ${g * 4}u, step + ${g * 4}u);`)}
${repeat(outputs, (o) => repeat(groups, (g) => `    sum_${r}[${o}] += dot(w_${o}_${g}, x_${r}_${g});`))}`,
)}
  }`;
}

/** WGSL: the sum of a value of all threads of a team, in each of its threads. */
function teamSum({ subgroups, lanes, threads }: VectorSpec): string {
  if (subgroups) return "\nfn team_sum(value: vec4f, thread: u32) -> vec4f { return subgroupAdd(value); }";
  return /* wgsl */ `
var<workgroup> partial: array<vec4f, ${threads}>;

fn team_sum(value: vec4f, thread: u32) -> vec4f {
  partial[thread] = value;
  workgroupBarrier();
  for (var half = ${lanes / 2}u; half > 0u; half /= 2u) {
    if (thread % ${lanes}u < half) { partial[thread] += partial[thread + half]; }
    workgroupBarrier();
  }
  let sum = partial[thread - thread % ${lanes}u];
  workgroupBarrier();
  return sum;
}`;
}

function body(spec: VectorSpec): string {
  const { rows, outputs, lanes, threads } = spec;
  const teams = threads / lanes;
  return /* wgsl */ `
${spec.aWide ? WIDE_READER : narrowReader("a")}
${spec.bWide ? "" : narrowReader("b")}
${epilogue({ ...spec, yWide: false })}
${teamSum(spec)}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let lane = thread % ${lanes}u;
  let first = ((group.x + group.y * groups.x) * ${teams}u + thread / ${lanes}u) * ${outputs}u;
${repeat(outputs, (o) => `  let output_${o} = min(first + ${o}u, params.columns - 1u);`)}
${repeat(rows, (r) => `  var sum_${r} = vec4f();`)}
${loop(spec)}
${repeat(rows, (r) => `  sum_${r} = team_sum(sum_${r}, thread);`)}
  if (lane == 0u) {
${repeat(rows, (r) => repeat(outputs, (o) => `    store_one(${r}u, first + ${o}u, sum_${r}[${o}]);`))}
  }
}`;
}

const SAMPLE = {
  lanes: 32,
  threads: 128,
  y: "f32",
  yWide: false,
  adds: false,
  residual: false,
  bias: true,
  scales: false,
} as const;

/** y = x Wᵀ + bias for up to 8 rows of x. */
export const multiplyVectors: KernelFamily<VectorSpec> = defineKernel<VectorSpec>(
  "vectors",
  [
    { ...SAMPLE, rows: 1, a: "f32", aWide: true, b: "f32", bWide: true, outputs: 4, subgroups: true },
    { ...SAMPLE, rows: 3, a: "f16", aWide: true, b: "f16", bWide: true, outputs: 2, subgroups: false },
    {
      ...SAMPLE,
      rows: 2,
      a: "f32",
      aWide: false,
      b: "int8",
      bWide: true,
      outputs: 1,
      subgroups: false,
      scales: true,
      y: "f16",
    },
    {
      ...SAMPLE,
      rows: 2,
      a: "f32",
      aWide: false,
      b: "f16",
      bWide: false,
      outputs: 1,
      subgroups: false,
      bias: false,
      adds: true,
      residual: false,
    },
  ],
  (spec) => ({
    buffers: {
      a: spec.aWide ? `read vec4<${spec.a}>` : `read ${spec.a}`,
      b: weightUse(spec),
      ...epilogueBuffers({ ...spec, yWide: false }),
    },
    params: ["columns", "steps"],
    body: body(spec),
  }),
);
