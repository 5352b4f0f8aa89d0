// Products without workgroup memory: every thread reads what its 4 x 4 elements of the result need. For software adapters,
// where memory is one and a kernel with barriers takes many times as long to compile.
import type { KernelFamily, KernelSpec } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { beginOfB, entriesBuffers, entriesHelpers, productParams, stepsOfGroup } from "./webgpu-entries.ts";
import type { EntriesSpec } from "./webgpu-entries.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import { TILE_OF_GROUP, epilogue, epilogueBuffers } from "./webgpu-epilogue.ts";
import type { Along, OperandType } from "./webgpu-product.ts";
import { bufferUse, reader } from "./webgpu-tiles.ts";

interface DirectSpec extends EpilogueSpec, EntriesSpec, KernelSpec {
  readonly a: "f32" | "f16";
  readonly aAlong: Along;
  readonly aWide: boolean;
  readonly b: OperandType;
  readonly bAlong: Along;
  readonly bWide: boolean;
}

/** What a workgroup computes: 8 x 8 threads of 4 x 4 elements. */
export const DIRECT_TILE = { tileRows: 32, tileColumns: 32, tileSteps: 4 } as const;

/** WGSL: a block of 4 steps by 4 of the outer axis, a vector a step. */
function block(name: "a" | "b", along: Along, outer: string): string {
  const read = along === "steps" ? `read_${name}(${outer} + i, begun, end)` : `read_${name}(${outer}, begun + i, end)`;
  return /* wgsl */ `
    var block_${name}: mat4x4f;
    for (var i = 0u; i < four; i++) { block_${name}[i] = ${read}; }
    ${along === "steps" ? `block_${name} = transpose(block_${name});` : ""}`;
}

function body(spec: DirectSpec): string {
  return /* wgsl */ `
const TILE_ROWS = ${DIRECT_TILE.tileRows}u;
const TILE_COLUMNS = ${DIRECT_TILE.tileColumns}u;
${reader("a", spec.a, spec.aAlong, spec.aWide)}
${entriesHelpers(spec)}
${reader("b", spec.b, spec.bAlong, spec.bWide, beginOfB(spec))}
${epilogue(spec)}
${TILE_OF_GROUP}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let origin = origin_of(group, groups);
  if (!origin.is_inside) { return; }
  let first_row = origin.row + thread / 8u * 4u;
  let first_column = origin.column + thread % 8u * 4u;
${stepsOfGroup(spec)}
  // A bound that compilers do not know, so that they unroll nothing.
  let four = select(4u, params.steps, params.steps == 0u);
  var sums: mat4x4f;
  for (var begun = begin; begun < end; begun += 4u) {
${block("a", spec.aAlong, "first_row")}
${block("b", spec.bAlong, "first_column")}
    for (var i = 0u; i < four; i++) {
      sums[0] += block_a[i].x * block_b[i];
      sums[1] += block_a[i].y * block_b[i];
      sums[2] += block_a[i].z * block_b[i];
      sums[3] += block_a[i].w * block_b[i];
    }
  }
  for (var i = 0u; i < four; i++) {
    if (first_row + i < params.rows) { store(group.z * params.rows + first_row + i, first_column, sums[i]); }
  }
}`;
}

/** y (+)= a b, as {@link Product} says; group.z takes `span` of the steps, and its own rows of y. */
export const multiplyDirect: KernelFamily<DirectSpec> = defineKernel<DirectSpec>(
  "direct",
  [
    {
      a: "f32",
      aAlong: "steps",
      aWide: true,
      b: "f16",
      bAlong: "outer",
      bWide: false,
      y: "f32",
      yWide: true,
      adds: true,
      residual: false,
      bias: false,
      scales: false,
    },
    {
      a: "f16",
      aAlong: "outer",
      aWide: false,
      b: "int8",
      bAlong: "steps",
      bWide: true,
      y: "f16",
      yWide: false,
      adds: false,
      residual: false,
      bias: true,
      scales: true,
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
