// Products of a few rows with a weight, bound by reading the weight once: teams of lanes share an output's sum.
// Version 2 of the ladder in README.md.
import { repeat } from "../selective-scan/webgpu-wgsl.ts";

/** Threads of a workgroup. */
export const GROUP = 256;

/** What a product kernel is compiled for. */
export type ProductSpec = {
  /** Columns of the weight. */
  readonly inputs: number;
  /** Rows of x. */
  readonly rows: number;
  readonly format: WeightFormat;
  /** Outputs that a team computes side by side: each element of x that it reads serves all of them. */
  readonly perTeam: number;
  /** Teams that share the inputs of an output. */
  readonly split: number;
  /** Lanes whose sums subgroupAdd gives; 1 where subgroups have no known size. */
  readonly subgroup: number;
  /** Whether x is normalised by its root mean square and a weight on the way. */
  readonly norm: boolean;
};

/** Element type of a weight's rows. */
export type WeightFormat = "f32" | "f16" | "int8";

/** Element type of a weight's buffer. */
export const WEIGHT_TYPE: Readonly<Record<WeightFormat, string>> = {
  f32: "vec4<f32>",
  f16: "vec4<u32>",
  int8: "vec4<u32>",
};

/** Elements in a load of 16 bytes. */
export const UNIT: Readonly<Record<WeightFormat, number>> = { f32: 4, f16: 8, int8: 16 };

/** Outputs of a workgroup. */
export function outputsOfGroup({ perTeam, split, subgroup }: ProductSpec): number {
  return (GROUP / teamOf(subgroup) / split) * perTeam;
}

function teamOf(subgroup: number): number {
  return Math.max(32, subgroup);
}

/** Loads times rows of x in a pass of the loop: beyond, registers run short, and the text is slow to compile. */
const MOST_UNROLLED = 20;

/**
 * A kernel that ends with one thread an (output, row), which has `value`, the finished sum, in `finish`. What it needs
 * beside the sum it loads in `prepare`, while the sums are under way. Both see `output`, `row` and `is_mine`. `after` runs in all threads at last.
 *
 * Buffers x (vec4<f32>), weight and, with `norm`, norm (vec4<f32>); parameters outputs, scales_at (where the scales of
 * int8 rows begin, in bytes) and eps (of the norm).
 */
export function productKernel(spec: ProductSpec, prepare: string, finish: string, after = ""): string {
  const { inputs, rows, format, perTeam, split, subgroup, norm } = spec;
  const team = teamOf(subgroup);
  const units = inputs / UNIT[format];
  const steps = Math.ceil(units / (team * split));
  const most = Math.max(1, Math.floor(MOST_UNROLLED / (rows * perTeam)));
  const unrolled = [5, 4, 3, 2, 1].find((count) => count <= most && steps % count === 0)!;
  const isWhole = units % (team * split) === 0;
  const sums = productSums(spec);
  return /* wgsl */ `
const ROWS = ${rows}u;
const PER_TEAM = ${perTeam}u;
const TEAM = ${team}u;
const SPLIT = ${split}u;
const SUBGROUP = ${subgroup}u;
const UNITS = ${units}u;
const TEAMS = ${GROUP}u / TEAM;
const GROUP_OUTPUTS = TEAMS / SPLIT * PER_TEAM;
const SUMS = ${sums.length}u;
var<workgroup> totals: array<f32, ${(GROUP / subgroup) * sums.length}>;
${readers(format)}
/** The sum with this number over the lanes and parts of a team. */
fn total(team: u32, number: u32) -> f32 {
  let first = team * SPLIT * (TEAM / SUBGROUP);
  var sum = 0.0;
  for (var i = 0u; i < SPLIT * (TEAM / SUBGROUP); i++) { sum += totals[(first + i) * SUMS + number]; }
  return sum;
}

@compute @workgroup_size(${GROUP})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let first_output = (group.x + group.y * groups.x) * GROUP_OUTPUTS;
  let output = first_output + thread % GROUP_OUTPUTS;
  let row = thread / GROUP_OUTPUTS;
  let is_mine = row < ROWS && output < params.outputs;
${prepare}
  let team = thread / TEAM;
  let lane = thread % TEAM;
  let team_output = first_output + team / SPLIT * PER_TEAM;
${repeat(perTeam, (o) => `  let row_${o} = min(team_output + ${o}u, params.outputs - 1u);\n`)}
${sums.map((sum) => `  var ${sum} = 0.0;`).join("\n")}
  for (var step = 0u; step < ${steps}u; step += ${unrolled}u) {
${repeat(unrolled, (i) => unitText(spec, i, isWhole))}
  }
${subgroup > 1 ? addBySubgroups(sums, subgroup) : addInMemory(sums)}
  workgroupBarrier();
  if (is_mine) {
    let mine = thread % GROUP_OUTPUTS;
    var value = total(mine / PER_TEAM, (mine % PER_TEAM) * ROWS + row);
${format === "int8" ? SCALED : ""}
${norm ? "    value *= inverseSqrt(total(mine / PER_TEAM, PER_TEAM * ROWS + row) / f32(UNITS * UNIT) + params.eps);" : ""}
${finish}
  }
${after}
}`;
}

/** Names of the sums: of each output and row, then the squares of each row. */
function productSums({ rows, perTeam, norm }: ProductSpec): string[] {
  const names = Array.from({ length: perTeam * rows }, (_, i) => `sum_${Math.floor(i / rows)}_${i % rows}`);
  return norm ? [...names, ...Array.from({ length: rows }, (_, r) => `squares_${r}`)] : names;
}

/** One load of every output's weights, and the elements of x that belong to it. */
function unitText({ rows, format, perTeam, norm }: ProductSpec, i: number, isWhole: boolean): string {
  const parts = UNIT[format] / 4;
  const products = (p: number, r: number): string => /* wgsl */ `
      {
        var part = x[(params.x_at + ${r}u * params.x_stride) / 4u + unit * ${parts}u + ${p}u];
${norm ? `        squares_${r} += dot(part, part);\n        part *= scale_${p};` : ""}
${repeat(perTeam, (o) => `        sum_${o}_${r} += dot(weights(loaded_${o}, ${p}u), part);\n`)}
      }`;
  return /* wgsl */ `
    {
      let unit = ((step + ${i}u) * SPLIT + team % SPLIT) * TEAM + lane;
${isWhole ? "" : "      if (unit < UNITS) {"}
${repeat(perTeam, (o) => `      let loaded_${o} = weight[params.weight_at / UNIT + row_${o} * UNITS + unit];\n`)}
${norm ? repeat(parts, (p) => `      let scale_${p} = norm[params.norm_at / 4u + unit * ${parts}u + ${p}u];\n`) : ""}
${repeat(parts, (p) => repeat(rows, (r) => products(p, r)))}
${isWhole ? "" : "      }"}
    }`;
}

/** The scales of int8 rows lie behind them. */
const SCALED = /* wgsl */ `
    let scale = params.scales_at / 4u + output;
    value *= bitcast<f32>(weight[scale / 4u][scale % 4u]);`;

/** `weights(loaded, part)`: four weights of a load. */
function readers(format: WeightFormat): string {
  if (format === "f32")
    return /* wgsl */ `
const UNIT = 4u;
fn weights(loaded: vec4<f32>, part: u32) -> vec4f { return loaded; }`;
  if (format === "int8")
    return /* wgsl */ `
const UNIT = 16u;
fn weights(loaded: vec4<u32>, part: u32) -> vec4f { return vec4f(unpack4xI8(loaded[part])); }`;
  return /* wgsl */ `
const UNIT = 8u;
fn weights(loaded: vec4<u32>, part: u32) -> vec4f {
  return vec4f(unpack2x16float(loaded[2u * part]), unpack2x16float(loaded[2u * part + 1u]));
}`;
}

function addBySubgroups(sums: readonly string[], subgroup: number): string {
  return /* wgsl */ `
${sums.map((sum) => `  ${sum} = subgroupAdd(${sum});`).join("\n")}
  if (thread % ${subgroup}u == 0u) {
${sums.map((sum, i) => `    totals[thread / ${subgroup}u * SUMS + ${i}u] = ${sum};`).join("\n")}
  }`;
}

function addInMemory(sums: readonly string[]): string {
  return sums.map((sum, i) => `  totals[thread * SUMS + ${i}u] = ${sum};`).join("\n");
}
