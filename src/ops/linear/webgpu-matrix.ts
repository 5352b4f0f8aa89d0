// Products by subgroup matrices: float16 times float16, summed in float32 by the GPU's matrix units.
//
// A workgroup computes a tile of the result, each of its subgroups a part of the tile in registers. A step of the loop
// brings `tileSteps` of the sums into workgroup memory as they lie in storage (16 bytes a load, rows padded by 16 bytes
// against bank conflicts); the next step's loads are on their way meanwhile. README.md has the ladder.
import type { KernelFamily, KernelSpec } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { TILE_OF_GROUP, epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";
import type { MatrixOps } from "./webgpu-matrix-ops.ts";
import { EMULATED_OPS, MATRIX, SUBGROUP, UNIT_OPS } from "./webgpu-matrix-ops.ts";
import type { Along, OperandType } from "./webgpu-product.ts";

/** Sizes that decide the speed. */
export interface MatrixTile {
  readonly tileRows: number;
  readonly tileColumns: number;
  /** Terms of the sums in a step; a multiple of 16. */
  readonly tileSteps: number;
  /** The part of a tile that a subgroup computes. */
  readonly partRows: number;
  readonly partColumns: number;
  /** 2: the next step is stored while this one is multiplied, and a step takes one barrier. */
  readonly stages: 1 | 2;
}

export interface MatrixSpec extends MatrixTile, EpilogueSpec, KernelSpec {
  readonly a: "f16" | "f32";
  readonly aAlong: Along;
  /** Whether the operand is read 8 elements at a time. */
  readonly aWide: boolean;
  readonly b: OperandType;
  readonly bAlong: Along;
  readonly bWide: boolean;
  /** Ordinary arithmetic in place of the matrix units: slow, to test everything else where a device has none. */
  readonly emulated: boolean;
}

/** Halves in 16 bytes, the unit of workgroup memory. */
const UNIT = 8;

/** Threads of a workgroup. */
export function matrixThreads({ tileRows, tileColumns, partRows, partColumns }: MatrixTile): number {
  return (tileRows / partRows) * (tileColumns / partColumns) * SUBGROUP;
}

/** Bytes of workgroup memory. */
export function matrixBytes(tile: MatrixTile, aAlong: Along, bAlong: Along): number {
  return layoutOf({ ...tile, aAlong, bAlong }).units * 16;
}

interface Layout {
  /** Units from one row of an operand's tile to the next. */
  readonly strideA: number;
  readonly strideB: number;
  /** Units of A in a stage, and of both. */
  readonly unitsA: number;
  readonly unitsStage: number;
  /** Units from one row of the results of a subgroup to the next. */
  readonly strideOut: number;
  readonly units: number;
}

type LayoutSpec = MatrixTile & { readonly aAlong: Along; readonly bAlong: Along };

function layoutOf(spec: LayoutSpec): Layout {
  const { tileRows, tileColumns, tileSteps, partColumns, stages, aAlong, bAlong } = spec;
  const strideA = (aAlong === "steps" ? tileSteps : tileRows) / UNIT + 1;
  const strideB = (bAlong === "steps" ? tileSteps : tileColumns) / UNIT + 1;
  const unitsA = strideA * (aAlong === "steps" ? tileRows : tileSteps);
  const unitsB = strideB * (bAlong === "steps" ? tileColumns : tileSteps);
  const strideOut = partColumns / 4 + 1;
  const unitsOut = (matrixThreads(spec) / SUBGROUP) * MATRIX * strideOut;
  const unitsStage = unitsA + unitsB;
  return { strideA, strideB, unitsA, unitsStage, strideOut, units: Math.max(stages * unitsStage, unitsOut) };
}

const repeat = (count: number, text: (i: number) => string, separator = "\n"): string =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

const PACK_HALVES = /* wgsl */ `
fn pack_halves(low: vec4h, high: vec4h) -> vec4u {
  return vec4u(bitcast<vec2u>(low), bitcast<vec2u>(high));
}`;

/** Element type of the buffer of an operand. */
function bufferType(type: OperandType, wide: boolean): string {
  if (type === "int8") return "vec2<u32>";
  if (!wide) return type;
  return type === "f16" ? "vec4<u32>" : "vec4<f32>";
}

/**
 * WGSL: `read_a(outer, step)`: 8 halves of operand a, from (outer, step) on along its contiguous axis. Beyond the end of
 * the outer axis it gives anything finite that is there; beyond that of the steps, zeros where `guarded`.
 */
function reader(name: "a" | "b", type: OperandType, along: Along, wide: boolean): string {
  const outerCount = name === "a" ? "params.rows" : "params.columns";
  const place = along === "steps" ? `outer * params.${name}_stride + step` : `step * params.${name}_stride + outer`;
  if (wide) {
    const last = along === "steps" ? `${outerCount} - 1u` : `${outerCount} - ${UNIT}u`;
    return /* wgsl */ `
fn read_${name}(outer_wanted: u32, step: u32) -> vec4u {
  let outer = min(outer_wanted, ${last});
  let at = (params.${name}_at + ${place}) / ${UNIT}u;
${READ_UNIT[type](name)}
}`;
  }
  const [stepOf, outerOf] = along === "steps" ? ["step + i", "outer"] : ["step", "outer + i"];
  return /* wgsl */ `
fn ${name}_element(outer: u32, step: u32) -> f16 {
  if (outer >= ${outerCount} || step >= params.steps) { return f16(0); }
  return f16(${name}[params.${name}_at + ${place}]);
}

fn read_${name}(outer: u32, step: u32) -> vec4u {
  var halves: array<f16, 8>;
  // A bound that compilers do not know: unrolled, this takes software adapters long to compile.
  for (var i = 0u; i < select(8u, params.steps, params.steps == 0u); i++) { halves[i] = ${name}_element(${outerOf}, ${stepOf}); }
  return pack_halves(vec4h(halves[0], halves[1], halves[2], halves[3]), vec4h(halves[4], halves[5], halves[6], halves[7]));
}`;
}

const READ_UNIT: Record<OperandType, (name: string) => string> = {
  f16: (name) => `  return ${name}[at];`,
  f32: (name) => `  return pack_halves(vec4h(${name}[2u * at]), vec4h(${name}[2u * at + 1u]));`,
  int8: (name) => `  let bytes = ${name}[at];
  return pack_halves(vec4h(unpack4xI8(bytes.x)), vec4h(unpack4xI8(bytes.y)));`,
};

/** Where the chunks of 16 bytes of an operand's tile lie that a thread brings: WGSL of chunk i. */
function chunksOf(name: "a" | "b", along: Along, outerSize: number, { tileSteps }: MatrixTile, threads: number) {
  const line = (along === "steps" ? tileSteps : outerSize) / UNIT;
  const count = (outerSize * tileSteps) / UNIT / threads;
  const origin = name === "a" ? "origin.row" : "origin.column";
  const row = (i: number): string => `(thread / ${line}u + ${(i * threads) / line}u)`;
  const unit = `thread % ${line}u`;
  return {
    count,
    fits: Number.isInteger(count) && Number.isInteger(threads / line),
    place: (i: number, stride: number): string => `${row(i)} * ${stride}u + ${unit}`,
    outer: (i: number): string => (along === "steps" ? `${origin} + ${row(i)}` : `${origin} + (${unit}) * ${UNIT}u`),
    step: (i: number): string => (along === "steps" ? `(${unit}) * ${UNIT}u` : row(i)),
  };
}

type Chunks = ReturnType<typeof chunksOf>;

/** WGSL: brings the chunks of both operands at `from` into registers, unless all of the steps are done. */
function fetch(spec: MatrixSpec, chunksA: Chunks, chunksB: Chunks, from: string): string {
  const one = (name: "a" | "b", { count, outer, step }: Chunks, guarded: boolean): string =>
    repeat(count, (i) => {
      const read = `read_${name}(${outer(i)}, ${from} + ${step(i)})`;
      const value = guarded ? `select(vec4u(), ${read}, ${from} + ${step(i)} < end)` : read;
      return `      ${name}_${i} = ${value};`;
    });
  // Operands that are read by elements look after the end themselves.
  const guards = spec.aWide || spec.bWide;
  if (!guards) return `    if (${from} < end) {\n${one("a", chunksA, false)}\n${one("b", chunksB, false)}\n    }`;
  return /* wgsl */ `
    if (${from} + TILE_STEPS <= end) {
${one("a", chunksA, false)}
${one("b", chunksB, false)}
    } else if (${from} < end) {
${one("a", chunksA, spec.aWide)}
${one("b", chunksB, spec.bWide)}
    }`;
}

/** WGSL: stores the fetched chunks into the stage that begins at `stage`. */
function put(chunksA: Chunks, chunksB: Chunks, { strideA, strideB, unitsA }: Layout, stage: string): string {
  return [
    repeat(chunksA.count, (i) => `    tile[${stage} + ${chunksA.place(i, strideA)}] = a_${i};`),
    repeat(chunksB.count, (i) => `    tile[${stage} + ${unitsA}u + ${chunksB.place(i, strideB)}] = b_${i};`),
  ].join("\n");
}

/** WGSL: multiplies what lies in the stage at `stage`. */
function multiplyStage(spec: MatrixSpec, ops: MatrixOps, layout: Layout, stage: string): string {
  const { strideA, strideB, unitsA } = layout;
  const [down, across] = [spec.partRows / MATRIX, spec.partColumns / MATRIX];
  const at = (along: Along, stride: number, part: string, outer: number, step: number): string =>
    along === "steps"
      ? `(${part} + ${outer}u) * ${stride}u + ${step / UNIT}u`
      : `${step * stride}u + (${part} + ${outer}u) / ${UNIT}u`;
  return repeat(spec.tileSteps / MATRIX, (s) => {
    const left = (i: number): string =>
      ops.load(
        "left",
        `${stage} + ${at(spec.aAlong, strideA, "part_row", i * MATRIX, s * MATRIX)}`,
        strideA,
        spec.aAlong === "steps",
      );
    const right = (j: number): string =>
      ops.load(
        "right",
        `${stage} + ${unitsA}u + ${at(spec.bAlong, strideB, "part_column", j * MATRIX, s * MATRIX)}`,
        strideB,
        spec.bAlong === "outer",
      );
    return /* wgsl */ `    {
${repeat(down, (i) => `      let left_${i} = ${left(i)};`)}
${repeat(
  across,
  (j) => `      let right_${j} = ${right(j)};
${repeat(down, (i) => `      ${ops.multiply(`sum_${i}_${j}`, `left_${i}`, `right_${j}`)}`)}`,
)}
    }`;
  });
}

/** WGSL: the loop over the steps. */
function loop(spec: MatrixSpec, ops: MatrixOps, layout: Layout, chunksA: Chunks, chunksB: Chunks): string {
  const isDouble = spec.stages === 2;
  const next = "begun + TILE_STEPS";
  return /* wgsl */ `
${fetch(spec, chunksA, chunksB, "begin")}
${put(chunksA, chunksB, layout, "0u")}
  workgroupBarrier();
  ${isDouble ? "var stage = 0u;" : ""}
  for (var begun = begin; begun < end; begun += TILE_STEPS) {
${fetch(spec, chunksA, chunksB, `(${next})`)}
${multiplyStage(spec, ops, layout, isDouble ? "stage" : "0u")}
    ${isDouble ? `stage = ${layout.unitsStage}u - stage;` : "workgroupBarrier();"}
${put(chunksA, chunksB, layout, isDouble ? "stage" : "0u")}
    workgroupBarrier();
  }`;
}

/** WGSL: hands the sums over through workgroup memory, 16 rows of each subgroup at a time. */
function storeSums(spec: MatrixSpec, ops: MatrixOps, { strideOut }: Layout): string {
  const { partRows, partColumns, tileColumns } = spec;
  const lines = partColumns / 4;
  const threads = matrixThreads(spec);
  const units = (threads / SUBGROUP) * MATRIX * lines;
  return repeat(
    partRows / MATRIX,
    (i) => /* wgsl */ `
${repeat(partColumns / MATRIX, (j) => `  ${ops.store(`sum_${i}_${j}`, `subgroup * ${MATRIX * strideOut}u + ${(j * MATRIX) / 4}u`, strideOut)}`)}
  workgroupBarrier();
  for (var unit = thread; unit < ${units}u; unit += ${threads}u) {
    let part = unit / ${MATRIX * lines}u;
    let line = unit / ${lines}u % ${MATRIX}u;
    let row = origin.row + part / ${tileColumns / partColumns}u * ${partRows}u + ${i * MATRIX}u + line;
    let column = origin.column + part % ${tileColumns / partColumns}u * ${partColumns}u + unit % ${lines}u * 4u;
    let sums = bitcast<vec4f>(tile[(part * ${MATRIX}u + line) * ${strideOut}u + unit % ${lines}u]);
    if (row < params.rows) { store(group.z * params.rows + row, column, sums); }
  }
  workgroupBarrier();`,
  );
}

/** Whether the threads of a tile can share out its loads evenly. */
export function isEvenTile(tile: MatrixTile, aAlong: Along, bAlong: Along): boolean {
  const threads = matrixThreads(tile);
  return (
    chunksOf("a", aAlong, tile.tileRows, tile, threads).fits &&
    chunksOf("b", bAlong, tile.tileColumns, tile, threads).fits
  );
}

function body(spec: MatrixSpec): string {
  const { tileRows, tileColumns, tileSteps, partRows, partColumns, aAlong, bAlong } = spec;
  const ops = spec.emulated ? EMULATED_OPS : UNIT_OPS;
  const layout = layoutOf(spec);
  const threads = matrixThreads(spec);
  const chunksA = chunksOf("a", aAlong, tileRows, spec, threads);
  const chunksB = chunksOf("b", bAlong, tileColumns, spec, threads);
  const across = tileColumns / partColumns;
  return /* wgsl */ `
const TILE_ROWS = ${tileRows}u;
const TILE_COLUMNS = ${tileColumns}u;
const TILE_STEPS = ${tileSteps}u;

var<workgroup> tile: array<vec4<u32>, ${layout.units}>;
${PACK_HALVES}
${reader("a", spec.a, aAlong, spec.aWide)}
${reader("b", spec.b, bAlong, spec.bWide)}
${epilogue(spec)}
${TILE_OF_GROUP}
${ops.helpers}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,${spec.emulated ? "" : "\n  @builtin(subgroup_id) subgroup: u32,"}
) {
  let origin = origin_of(group, groups);
  if (!origin.is_inside) { return; }
  let begin = group.z * params.span;
  let end = min(begin + params.span, params.steps);
  ${spec.emulated ? `let subgroup = thread / ${SUBGROUP}u;` : ""}
  let part_row = subgroup / ${across}u * ${partRows}u;
  let part_column = subgroup % ${across}u * ${partColumns}u;
${repeat(partRows / MATRIX, (i) => repeat(partColumns / MATRIX, (j) => `  var sum_${i}_${j}: ${ops.sum};`))}
${repeat(chunksA.count, (i) => `  var a_${i}: vec4u;`)}
${repeat(chunksB.count, (i) => `  var b_${i}: vec4u;`)}
${loop(spec, ops, layout, chunksA, chunksB)}
${storeSums(spec, ops, layout)}
}`;
}

const SAMPLE_TILE = { tileRows: 64, tileColumns: 64, tileSteps: 32, partRows: 32, partColumns: 32, stages: 1 } as const;
const SAMPLE_END = { y: "f16", yWide: true, adds: false, bias: true, scales: false } as const;

/** y (+)= a b, as {@link Product} says; group.z takes `span` of the steps, and its own rows of y. */
export const multiplyByMatrices: KernelFamily<MatrixSpec> = defineKernel<MatrixSpec>(
  "matrices",
  [
    {
      ...SAMPLE_TILE,
      ...SAMPLE_END,
      a: "f16",
      aAlong: "steps",
      aWide: true,
      b: "f16",
      bAlong: "steps",
      bWide: true,
      emulated: false,
    },
    {
      ...SAMPLE_TILE,
      ...SAMPLE_END,
      stages: 2,
      yWide: false,
      scales: true,
      bias: false,
      a: "f16",
      aAlong: "steps",
      aWide: false,
      b: "int8",
      bAlong: "steps",
      bWide: true,
      emulated: false,
    },
    {
      ...SAMPLE_TILE,
      ...SAMPLE_END,
      y: "f32",
      adds: true,
      a: "f32",
      aAlong: "outer",
      aWide: true,
      b: "f16",
      bAlong: "outer",
      bWide: false,
      emulated: true,
    },
  ],
  (spec) => ({
    buffers: {
      a: `read ${bufferType(spec.a, spec.aWide)}`,
      b: `read ${bufferType(spec.b, spec.bWide)}`,
      ...epilogueBuffers(spec),
    },
    params: ["rows", "columns", "steps", "span"],
    ...(spec.emulated
      ? {}
      : {
          enables: ["chromium_experimental_subgroup_matrix"],
          directives: "diagnostic(off, chromium.subgroup_matrix_uniformity);",
        }),
    body: body(spec),
  }),
);
