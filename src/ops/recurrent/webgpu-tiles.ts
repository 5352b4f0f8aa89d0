// How a step of a recurrence is cut into workgroups: a tile of units by a tile of sequences, whose sums over the state are
// shared by lanes of threads; and what the kernels of both directions share of that.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";

/** Threads of a workgroup. */
export const STEP_THREADS = 256;
/** Vectors of four numbers of each sequence that are brought to workgroup memory at a time. */
const CHUNK = 64;
const VECTOR_BYTES = 16;
const MOST_ROWS = 8;
/** Workgroups that keep a GPU busy. */
const ENOUGH_GROUPS = 128;

/** A part of a kernel's specification. */
export type StepTile = {
  /** Units of a workgroup. */
  readonly units: number;
  /** Sequences of a workgroup. */
  readonly rows: number;
  /** Sequences whose sums over the lanes are found at once: as many as workgroup memory allows. */
  readonly rowsAtOnce: number;
};

/** Tiles from the largest of `units` that gives enough workgroups. */
export function chooseStepTile(
  backend: WebGpuBackend,
  { batch, dHidden, units }: { batch: number; dHidden: number; units: readonly number[] },
): StepTile {
  const rows = Math.min(MOST_ROWS, 2 ** Math.ceil(Math.log2(batch)));
  const groupsOf = (count: number): number => Math.ceil(dHidden / count) * Math.ceil(batch / rows);
  const chosen = units.find((count) => groupsOf(count) >= ENOUGH_GROUPS) ?? units.at(-1)!;
  const bytes = backend.device.limits.maxComputeWorkgroupStorageSize - rows * CHUNK * VECTOR_BYTES;
  let rowsAtOnce = rows;
  while (rowsAtOnce > 1 && rowsAtOnce * STEP_THREADS * VECTOR_BYTES > bytes) rowsAtOnce /= 2;
  return { units: chosen, rows, rowsAtOnce };
}

/** Samples of both ends. */
export const STEP_TILE_SAMPLES: readonly StepTile[] = [
  { units: 8, rows: 8, rowsAtOnce: 2 },
  { units: 16, rows: 1, rowsAtOnce: 1 },
];

/** WGSL for every row of a tile. */
export function forRows({ rows }: StepTile, text: (row: number) => string): string {
  return Array.from({ length: rows }, (_, row) => text(row)).join("\n");
}

/**
 * WGSL: `stage(first, sequence, thread)` brings CHUNK vectors of every sequence of the tile, from vector `first` on, to
 * `staged`; the text of `vector_of(sequence, index) -> vec4f` is the kernel's. Rows beyond the last are copies of it.
 */
export function stagingOf({ rows, rowsAtOnce }: StepTile): string {
  return /* wgsl */ `
const CHUNK = ${CHUNK}u;
const ROWS = ${rows}u;
const THREADS = ${STEP_THREADS}u;
const AT_ONCE = ${rowsAtOnce}u;
var<workgroup> staged: array<vec4f, ROWS * CHUNK>;
var<workgroup> parts: array<vec4f, AT_ONCE * THREADS>;
fn stage(first: u32, sequence: u32, thread: u32) {
  for (var i = thread; i < ROWS * CHUNK; i += THREADS) {
    staged[i] = vector_of(min(sequence + i / CHUNK, params.batch - 1u), first + i % CHUNK);
  }
}`;
}

/**
 * WGSL: the sums over lanes of `sum0`, `sum1` ..., one of each row of the tile. Threads of one sum are `step` apart, and
 * there are `params.lanes` of them: a parameter, so that no compiler unrolls a loop with a barrier. `take` is what a thread
 * does for its `pair_row`, whose sums lie in parts[from_row + the first of their threads].
 */
export function sumOverLanes(tile: StepTile, { step, take }: { step: number; take: string }): string {
  const rounds = tile.rows / tile.rowsAtOnce;
  return Array.from({ length: rounds }, (_, round) => {
    const first = round * tile.rowsAtOnce;
    const stores = Array.from(
      { length: tile.rowsAtOnce },
      (_, i) => `parts[${i * STEP_THREADS}u + thread] = sum${first + i};`,
    );
    return /* wgsl */ `
  ${stores.join("\n  ")}
  workgroupBarrier();
  for (var half = params.lanes / 2u; half > 0u; half /= 2u) {
    if (lane < half) {
      for (var i = 0u; i < AT_ONCE; i++) { parts[i * THREADS + thread] += parts[i * THREADS + thread + half * ${step}u]; }
    }
    workgroupBarrier();
  }
  if (pair_row >= ${first}u && pair_row < ${first + tile.rowsAtOnce}u) {
    let from_row = (pair_row - ${first}u) * THREADS;
    ${take}
  }
  workgroupBarrier();`;
  }).join("\n");
}
