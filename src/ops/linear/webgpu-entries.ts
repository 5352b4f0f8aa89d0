// Products that are divided among the matrices of a tensor [entries, rows, columns], such as the weights of experts: which
// rows, or which steps, belong to which entry is known on the device only.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";

/**
 * rows: rows of a and of the result belong to entries of b; `division` holds the entry of each `entryRows` of them, or
 * NO_ENTRY where there are none. steps: what is summed over belongs to entries of the result, one a group.z; `division`
 * holds where the steps of each begin, and where the last end.
 */
export type Entries = "rows" | "steps";

/** A part of a kernel's specification. */
export interface EntriesSpec {
  readonly entries?: Entries | undefined;
}

/** What stands in `division` for rows that are not there. */
export const NO_ENTRY = 0xffffffff;

export function entriesBuffers({ entries }: EntriesSpec): Record<string, BufferUse> {
  return entries ? { division: "read u32" } : {};
}

/** Parameters of a product: `entrySize` is the number of elements of an entry of b. */
export function productParams({ entries }: EntriesSpec): string[] {
  return ["rows", "columns", "steps", "span", ...(entries ? ["entrySize", "entryRows"] : [])];
}

/** WGSL: where b begins. */
export function beginOfB({ entries }: EntriesSpec): string {
  return entries === "rows" ? "b_from" : "params.b_at";
}

/** WGSL: declarations of {@link stepsOfGroup}. */
export function entriesHelpers({ entries }: EntriesSpec): string {
  return entries === "rows" ? "var<private> b_from: u32;" : "";
}

/** WGSL, behind `origin`: `begin` and `end` of the steps of a workgroup, and the entry of b. */
export function stepsOfGroup({ entries }: EntriesSpec): string {
  if (entries === "rows")
    return /* wgsl */ `
  let entry = division[params.division_at + origin.row / params.entryRows];
  if (entry == ${NO_ENTRY}u) { return; }
  b_from = params.b_at + entry * params.entrySize;
  let begin = 0u;
  let end = params.steps;`;
  if (entries === "steps")
    return /* wgsl */ `
  let begin = division[params.division_at + group.z];
  let end = division[params.division_at + group.z + 1u];`;
  return /* wgsl */ `
  let begin = group.z * params.span;
  let end = min(begin + params.span, params.steps);`;
}
