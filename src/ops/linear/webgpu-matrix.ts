// Products by subgroup matrices: float16 times float16, summed in float32 by the GPU's matrix units.
//
// A workgroup computes a tile of the result, each of its subgroups a part of the tile in registers. A step of the loop
// brings `tileSteps` of the sums into workgroup memory as they lie in storage (16 bytes a load, rows padded by 16 bytes
// against bank conflicts); the next step's loads are on their way meanwhile. README.md has the ladder.
import type { KernelFamily, KernelSpec } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { beginOfB, entriesBuffers, entriesHelpers, productParams, stepsOfGroup } from "./webgpu-entries.ts";
import type { EntriesSpec } from "./webgpu-entries.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { TILE_OF_GROUP, epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";
import type { MatrixOps } from "../webgpu-matrix-ops.ts";
import { EMULATED_OPS, MATRIX, SUBGROUP, UNIT_OPS } from "../webgpu-matrix-ops.ts";
import { PACK_HALVES, UNIT, bufferType, reader } from "./webgpu-matrix-reads.ts";
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
  /** Groups of subgroups that share the terms of a step: each computes all of the tile, and their sums are added up. */
  readonly slices: number;
  /** Steps whose loads are under way while one is multiplied: 2 where multiplying takes less time than a load. */
  readonly ahead: 1 | 2;
}

export interface MatrixSpec extends MatrixTile, EpilogueSpec, EntriesSpec, KernelSpec {
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

/** Threads of a workgroup. */
export function matrixThreads(tile: MatrixTile): number {
  return partsOf(tile) * tile.slices * SUBGROUP;
}

function partsOf({ tileRows, tileColumns, partRows, partColumns }: MatrixTile): number {
  return (tileRows / partRows) * (tileColumns / partColumns);
}

/** Bytes of workgroup memory. */
export function matrixBytes(tile: MatrixTile, aAlong: Along, bAlong: Along): number {
  return layoutOf({ ...tile, aAlong, bAlong }).units * 16;
}

interface Layout {
  /** Units from one row of an operand's tile to the next. */
  readonly strideA: number;
  readonly strideB: number;
  /** Units of A: B follows. */
  readonly unitsA: number;
  /** Units from one row of the results of a subgroup to the next. */
  readonly strideOut: number;
  readonly units: number;
}

type LayoutSpec = MatrixTile & { readonly aAlong: Along; readonly bAlong: Along };

function layoutOf(spec: LayoutSpec): Layout {
  const { tileRows, tileColumns, tileSteps, partColumns, aAlong, bAlong } = spec;
  const strideA = (aAlong === "steps" ? tileSteps : tileRows) / UNIT + 1;
  const strideB = (bAlong === "steps" ? tileSteps : tileColumns) / UNIT + 1;
  const unitsA = strideA * (aAlong === "steps" ? tileRows : tileSteps);
  const unitsB = strideB * (bAlong === "steps" ? tileColumns : tileSteps);
  const strideOut = partColumns / 4 + 1;
  const unitsOut = (matrixThreads(spec) / SUBGROUP) * MATRIX * strideOut;
  return { strideA, strideB, unitsA, strideOut, units: Math.max(unitsA + unitsB, unitsOut) };
}

const repeat = (count: number, text: (i: number) => string, separator = "\n"): string =>
  Array.from({ length: count }, (_, i) => text(i)).join(separator);

/**
 * Where the chunks of 16 bytes of an operand's tile lie that a thread brings: WGSL of chunk i. Eight threads store at a
 * time, on 8 different banks of 16 bytes; where a line has four chunks, 5 apart, these are lines r and r + 4.
 */
function chunksOf(name: "a" | "b", along: Along, outerSize: number, { tileSteps }: MatrixTile, threads: number) {
  const line = (along === "steps" ? tileSteps : outerSize) / UNIT;
  const count = (outerSize * tileSteps) / UNIT / threads;
  const origin = name === "a" ? "origin.row" : "origin.column";
  const first = line === 4 ? "thread / 32u * 8u + thread / 4u % 2u * 4u + thread / 8u % 4u" : `thread / ${line}u`;
  const row = (i: number): string => `(${first} + ${(i * threads) / line}u)`;
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

/** WGSL: brings the chunks of both operands at `from` into a set of registers, unless all of the steps are done. */
function fetch(spec: MatrixSpec, chunksA: Chunks, chunksB: Chunks, from: string, set: number): string {
  const one = (name: "a" | "b", { count, outer, step }: Chunks, guarded: boolean): string =>
    repeat(count, (i) => {
      const read = `read_${name}(${outer(i)}, ${from} + ${step(i)})`;
      const value = guarded ? `select(vec4u(), ${read}, ${from} + ${step(i)} < end)` : read;
      return `      ${name}${set}_${i} = ${value};`;
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

/** WGSL: stores the chunks of a set. */
function put(chunksA: Chunks, chunksB: Chunks, { strideA, strideB, unitsA }: Layout, set: number): string {
  return [
    repeat(chunksA.count, (i) => `    tile[${chunksA.place(i, strideA)}] = a${set}_${i};`),
    repeat(chunksB.count, (i) => `    tile[${unitsA}u + ${chunksB.place(i, strideB)}] = b${set}_${i};`),
  ].join("\n");
}

/** WGSL: multiplies what lies in the tile. */
function multiplyTile(spec: MatrixSpec, ops: MatrixOps, layout: Layout): string {
  const { strideA, strideB, unitsA } = layout;
  const [down, across] = [spec.partRows / MATRIX, spec.partColumns / MATRIX];
  const steps = spec.tileSteps / spec.slices;
  const at = (along: Along, stride: number, part: string, outer: number, step: number): string =>
    along === "steps"
      ? `(${part} + ${outer}u) * ${stride}u + slice * ${steps / UNIT}u + ${step / UNIT}u`
      : `(slice * ${steps}u + ${step}u) * ${stride}u + (${part} + ${outer}u) / ${UNIT}u`;
  return repeat(steps / MATRIX, (s) => {
    const left = (i: number): string =>
      ops.load("left", at(spec.aAlong, strideA, "part_row", i * MATRIX, s * MATRIX), strideA, spec.aAlong === "steps");
    const right = (j: number): string =>
      ops.load(
        "right",
        `${unitsA}u + ${at(spec.bAlong, strideB, "part_column", j * MATRIX, s * MATRIX)}`,
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

/** WGSL: the loop over the steps. Step n comes by way of the registers n % ahead: as many steps a turn, so that this is a literal. */
function loop(spec: MatrixSpec, ops: MatrixOps, layout: Layout, chunksA: Chunks, chunksB: Chunks): string {
  const { ahead } = spec;
  const fetched = (n: number, first: string): string =>
    fetch(spec, chunksA, chunksB, `(${first} + ${n}u * TILE_STEPS)`, n % ahead);
  const step = (n: number): string => /* wgsl */ `
${n > 0 ? `    if (begun + ${n}u * TILE_STEPS >= end) { break; }` : ""}
${fetched(n + ahead, "begun")}
${multiplyTile(spec, ops, layout)}
    workgroupBarrier();
${put(chunksA, chunksB, layout, (n + 1) % ahead)}
    workgroupBarrier();`;
  return /* wgsl */ `
${repeat(ahead, (n) => fetched(n, "begin"))}
${put(chunksA, chunksB, layout, 0)}
  workgroupBarrier();
  for (var begun = begin; begun < end; begun += ${ahead}u * TILE_STEPS) {
${repeat(ahead, step)}
  }`;
}

/** WGSL: hands the sums over through workgroup memory, 16 rows of each subgroup at a time, and adds up those of the slices. */
function storeSums(spec: MatrixSpec, ops: MatrixOps, { strideOut }: Layout): string {
  const { partRows, partColumns, tileColumns } = spec;
  const lines = partColumns / 4;
  const threads = matrixThreads(spec);
  const units = partsOf(spec) * MATRIX * lines;
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
    let at = (part * ${MATRIX}u + line) * ${strideOut}u + unit % ${lines}u;
    var sums = bitcast<vec4f>(tile[at]);
${repeat(spec.slices - 1, (slice) => `    sums += bitcast<vec4f>(tile[at + ${(slice + 1) * partsOf(spec) * MATRIX * strideOut}u]);`)}
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

const opsOf = ({ emulated }: MatrixSpec): MatrixOps => (emulated ? EMULATED_OPS : UNIT_OPS);

function body(spec: MatrixSpec): string {
  const { tileRows, tileColumns, tileSteps, partRows, partColumns, aAlong, bAlong } = spec;
  const ops = opsOf(spec);
  const layout = layoutOf(spec);
  const threads = matrixThreads(spec);
  const chunksA = chunksOf("a", aAlong, tileRows, spec, threads);
  const chunksB = chunksOf("b", bAlong, tileColumns, spec, threads);
  const across = tileColumns / partColumns;
  const parts = partsOf(spec);
  return /* wgsl */ `
const TILE_ROWS = ${tileRows}u;
const TILE_COLUMNS = ${tileColumns}u;
const TILE_STEPS = ${tileSteps}u;

var<workgroup> tile: array<vec4<u32>, ${layout.units}>;
${PACK_HALVES}
${reader("a", spec.a, aAlong, spec.aWide)}
${entriesHelpers(spec)}
${reader("b", spec.b, bAlong, spec.bWide, beginOfB(spec))}
${epilogue(spec)}
${TILE_OF_GROUP}
${ops.helpers}

@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
  ${ops.parameter}
) {
  let origin = origin_of(group, groups);
  if (!origin.is_inside) { return; }
${stepsOfGroup(spec)}
  // The remainder tells compilers that no matrix lies outside of the tile.
  let subgroup = ${ops.subgroup} % ${threads / SUBGROUP}u;
  let slice = subgroup / ${parts}u;
  let part_row = subgroup % ${parts}u / ${across}u * ${partRows}u;
  let part_column = subgroup % ${across}u * ${partColumns}u;
${repeat(partRows / MATRIX, (i) => repeat(partColumns / MATRIX, (j) => `  var sum_${i}_${j}: ${ops.sum};`))}
${repeat(spec.ahead, (set) => repeat(chunksA.count, (i) => `  var a${set}_${i}: vec4u;`))}
${repeat(spec.ahead, (set) => repeat(chunksB.count, (i) => `  var b${set}_${i}: vec4u;`))}
${loop(spec, ops, layout, chunksA, chunksB)}
${storeSums(spec, ops, layout)}
}`;
}

const SAMPLE_TILE = {
  tileRows: 64,
  tileColumns: 64,
  tileSteps: 32,
  partRows: 32,
  partColumns: 32,
  slices: 1,
  ahead: 1,
} as const;
const SAMPLE_END = { y: "f16", yWide: true, adds: false, residual: false, bias: true, scales: false } as const;

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
      slices: 2,
      ahead: 2,
      yWide: false,
      residual: true,
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
      bias: false,
      a: "f16",
      aAlong: "steps",
      aWide: true,
      b: "f16",
      bAlong: "outer",
      bWide: true,
      emulated: false,
      entries: "rows",
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
      entries: "steps",
    },
  ],
  (spec) => ({
    buffers: {
      a: `read ${bufferType(spec.a, spec.aWide)}`,
      b: `read ${bufferType(spec.b, spec.bWide)}`,
      ...epilogueBuffers(spec),
      ...entriesBuffers(spec),
    },
    params: productParams(spec),
    ...opsOf(spec).extensions,
    body: body(spec),
  }),
);
