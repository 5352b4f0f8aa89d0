// Products by tiles in workgroup memory, with ordinary arithmetic: for every device, and for float32.
//
// A workgroup computes a tile of the result, each thread 4 or 8 rows and columns of it in registers. A step of the loop
// brings `tileSteps` of the sums into workgroup memory in blocks of 4 x 4, turned so that 4 entries of the outer axis lie
// side by side whichever axis is contiguous in storage.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { KernelFamily, KernelSpec } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { beginOfB, entriesBuffers, entriesHelpers, productParams, stepsOfGroup } from "./webgpu-entries.ts";
import type { EntriesSpec } from "./webgpu-entries.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { TILE_OF_GROUP, epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";
import type { Along, OperandType } from "./webgpu-product.ts";

/** Sizes that decide the speed, all multiples of 4. */
export interface PlainTile {
  readonly tileRows: number;
  readonly tileColumns: number;
  readonly tileSteps: number;
  /** The part of a tile that a thread computes. */
  readonly threadRows: number;
  readonly threadColumns: number;
}

export interface PlainSpec extends PlainTile, EpilogueSpec, EntriesSpec, KernelSpec {
  readonly a: "f32" | "f16";
  readonly aAlong: Along;
  /** Whether the operand is read 4 elements at a time. */
  readonly aWide: boolean;
  readonly b: OperandType;
  readonly bAlong: Along;
  readonly bWide: boolean;
}

/** Elements that are read at a time. */
const WIDTH = 4;

export function plainThreads({ tileRows, tileColumns, threadRows, threadColumns }: PlainTile): number {
  return (tileRows / threadRows) * (tileColumns / threadColumns);
}

const repeat = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join("\n");

export function bufferUse(type: OperandType, wide: boolean): BufferUse {
  if (type === "int8") return "read u32";
  return `read ${wide ? `vec4<${type}>` : type}`;
}

/**
 * WGSL: `read_a(outer, step)`: 4 elements of operand a, from (outer, step) on along its contiguous axis; zeros where the
 * axes end. `begin` says where the operand begins.
 */
export function reader(
  name: "a" | "b",
  type: OperandType,
  along: Along,
  wide: boolean,
  begin = `params.${name}_at`,
): string {
  const outerCount = name === "a" ? "params.rows" : "params.columns";
  const place = along === "steps" ? `outer * params.${name}_stride + step` : `step * params.${name}_stride + outer`;
  if (wide)
    return /* wgsl */ `
fn read_${name}(outer: u32, step: u32, end: u32) -> vec4f {
  if (outer >= ${outerCount} || step >= end) { return vec4f(); }
  let word = ${name}[(${begin} + ${place}) / 4u];
  return vec4f(${type === "int8" ? "unpack4xI8(word)" : "word"});
}`;
  const element = along === "steps" ? "outer, step + i" : "outer + i, step";
  return /* wgsl */ `
fn ${name}_element(outer: u32, step: u32, end: u32) -> f32 {
  if (outer >= ${outerCount} || step >= end) { return 0.0; }
  return f32(${name}[${begin} + ${place}]);
}

fn read_${name}(outer: u32, step: u32, end: u32) -> vec4f {
  var values = vec4f();
  // A bound that compilers do not know: unrolled, this takes software adapters long to compile.
  for (var i = 0u; i < select(4u, params.steps, params.steps == 0u); i++) { values[i] = ${name}_element(${element}, end); }
  return values;
}`;
}

/** WGSL: brings an operand's tile from step `begun` on into workgroup memory, as [step][outer / 4] vectors. */
function bring(name: "a" | "b", along: Along, outerSize: number, tile: PlainTile): string {
  const { tileSteps } = tile;
  const threads = plainThreads(tile);
  const across = outerSize / WIDTH;
  const blocks = (across * tileSteps) / WIDTH;
  const origin = name === "a" ? "origin.row" : "origin.column";
  // Neighbouring threads read on along the contiguous axis.
  const [blockStep, blockOuter] =
    along === "steps"
      ? [`block % ${tileSteps / WIDTH}u`, `block / ${tileSteps / WIDTH}u`]
      : [`block / ${across}u`, `block % ${across}u`];
  const read = (i: number): string =>
    along === "steps"
      ? `read_${name}(${origin} + outer + ${i}u, begun + step, end)`
      : `read_${name}(${origin} + outer, begun + step + ${i}u, end)`;
  return /* wgsl */ `
    for (var block = thread; block < ${blocks}u; block += ${threads}u) {
      let step = (${blockStep}) * 4u;
      let outer = (${blockOuter}) * 4u;
      var lines: mat4x4f;
${repeat(WIDTH, (i) => `      lines[${i}] = ${read(i)};`)}
      ${along === "steps" ? "lines = transpose(lines);" : ""}
      let at = step * ${across}u + outer / 4u;
${repeat(WIDTH, (i) => `      tile_${name}[at + ${i * across}u] = lines[${i}];`)}
    }`;
}

/** WGSL: one step's products of a thread: rows by columns of vectors. */
function multiplyStep({ tileRows, tileColumns, threadRows, threadColumns }: PlainTile): string {
  const [down, across] = [threadRows / WIDTH, threadColumns / WIDTH];
  const [rowThreads, columnThreads] = [tileRows / threadRows, tileColumns / threadColumns];
  const rows = repeat(
    down,
    (i) => `      let a_${i} = tile_a[step * ${tileRows / WIDTH}u + thread_row + ${i * rowThreads}u];`,
  );
  const columns = repeat(
    across,
    (j) => `      let b_${j} = tile_b[step * ${tileColumns / WIDTH}u + thread_column + ${j * columnThreads}u];`,
  );
  const products = repeat(threadRows, (r) =>
    repeat(across, (j) => `      sum_${r}_${j} = fma(vec4f(a_${r >> 2}[${r % 4}]), b_${j}, sum_${r}_${j});`),
  );
  return `${rows}\n${columns}\n${products}`;
}

function body(spec: PlainSpec): string {
  const { tileRows, tileColumns, tileSteps, threadRows, threadColumns } = spec;
  const threads = plainThreads(spec);
  const [rowThreads, columnThreads] = [tileRows / threadRows, tileColumns / threadColumns];
  const across = threadColumns / WIDTH;
  return /* wgsl */ `
const TILE_ROWS = ${tileRows}u;
const TILE_COLUMNS = ${tileColumns}u;
const TILE_STEPS = ${tileSteps}u;

var<workgroup> tile_a: array<vec4f, ${(tileRows * tileSteps) / WIDTH}>;
var<workgroup> tile_b: array<vec4f, ${(tileColumns * tileSteps) / WIDTH}>;
${reader("a", spec.a, spec.aAlong, spec.aWide)}
${entriesHelpers(spec)}
${reader("b", spec.b, spec.bAlong, spec.bWide, beginOfB(spec))}
${epilogue(spec)}
${TILE_OF_GROUP}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let origin = origin_of(group, groups);
  if (!origin.is_inside) { return; }
${stepsOfGroup(spec)}
  // In vectors of 4: a thread's rows and columns lie apart, so that neighbours read neighbouring vectors.
  let thread_row = thread / ${columnThreads}u;
  let thread_column = thread % ${columnThreads}u;
${repeat(threadRows, (r) => repeat(across, (j) => `  var sum_${r}_${j} = vec4f();`))}
  for (var begun = begin; begun < end; begun += TILE_STEPS) {
${bring("a", spec.aAlong, tileRows, spec)}
${bring("b", spec.bAlong, tileColumns, spec)}
    workgroupBarrier();
    for (var step = 0u; step < TILE_STEPS; step++) {
${multiplyStep(spec)}
    }
    workgroupBarrier();
  }
${repeat(threadRows, (r) => {
  const row = `origin.row + (thread_row + ${(r >> 2) * rowThreads}u) * 4u + ${r % 4}u`;
  return `  if (${row} < params.rows) {
    let row = group.z * params.rows + ${row};
${repeat(across, (j) => `    store(row, origin.column + (thread_column + ${j * columnThreads}u) * 4u, sum_${r}_${j});`)}
  }`;
})}
}`;
}

const SAMPLE_TILE = {
  tileRows: 32,
  tileColumns: 64,
  tileSteps: 16,
  threadRows: 4,
  threadColumns: 8,
} as const;

/** y (+)= a b, as {@link Product} says; group.z takes `span` of the steps, and its own rows of y. */
export const multiplyByTiles: KernelFamily<PlainSpec> = defineKernel<PlainSpec>(
  "tiles",
  [
    {
      ...SAMPLE_TILE,
      a: "f32",
      aAlong: "steps",
      aWide: true,
      b: "f32",
      bAlong: "steps",
      bWide: false,
      y: "f32",
      yWide: true,
      adds: false,
      residual: false,
      bias: true,
      scales: false,
    },
    {
      ...SAMPLE_TILE,
      a: "f16",
      aAlong: "steps",
      aWide: false,
      b: "int8",
      bAlong: "steps",
      bWide: true,
      y: "f16",
      yWide: false,
      adds: false,
      residual: false,
      bias: false,
      scales: true,
    },
    {
      ...SAMPLE_TILE,
      a: "f16",
      aAlong: "outer",
      aWide: true,
      b: "f32",
      bAlong: "outer",
      bWide: true,
      y: "f32",
      yWide: false,
      adds: true,
      residual: false,
      bias: false,
      scales: false,
      entries: "rows",
    },
  ],
  (spec) => ({
    buffers: {
      a: bufferUse(spec.a, spec.aWide),
      b: bufferUse(spec.b, spec.bWide),
      ...epilogueBuffers(spec),
      ...entriesBuffers(spec),
    },
    params: productParams(spec),
    body: body(spec),
  }),
);
