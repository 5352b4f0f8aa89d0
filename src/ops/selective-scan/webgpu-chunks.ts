// The short scan over the chunks of a sequence: what each leaves behind becomes the state before the next. See README.md.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { repeat } from "./webgpu-wgsl.ts";

export type ChunksSpec = {
  readonly dState: number;
  /** Vectors of four states that a channel takes in `chunk_states`. */
  readonly stepVectors: number;
  readonly hasInitial: boolean;
  readonly hasStarts: boolean;
  /** From the last chunk to the first, for the gradient of the state. */
  readonly isReversed: boolean;
};

/** Threads of {@link scanChunks}. */
export const CHUNKS_WORKGROUP = 64;

/**
 * The short scan over chunks, a thread a state: what a chunk leaves behind from zero becomes the state before it.
 * A chunk's decay is exp(A sum(dt)), for A does not change and dt belongs to all states of a channel.
 */
export const scanChunks: KernelFamily<ChunksSpec> = defineKernel<ChunksSpec>(
  "scanChunks",
  [
    { dState: 16, stepVectors: 4, hasInitial: false, hasStarts: false, isReversed: false },
    { dState: 3, stepVectors: 1, hasInitial: true, hasStarts: true, isReversed: true },
  ],
  ({ dState, stepVectors, hasInitial, hasStarts, isReversed }) => ({
    buffers: {
      A: "read f32",
      sums: "read f32",
      ...(hasInitial ? { initial_state: "read f32" } : {}),
      chunk_states: "add f32",
    },
    params: ["batch", "d_inner", "chunks"],
    body: /* wgsl */ `
const D_STATE = ${dState}u;
const PADDED_STATE = ${4 * stepVectors}u;
const LOG2_E = 1.4426950408889634;
// Chunks whose end states are on their way from memory at once.
const AHEAD = 8u;

@compute @workgroup_size(${CHUNKS_WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let sequence = group.y;
  let i = group.x * ${CHUNKS_WORKGROUP}u + thread;
  let channel = i / PADDED_STATE;
  let n = i % PADDED_STATE;
  if (channel >= params.d_inner || n >= D_STATE) { return; }
  let a = LOG2_E * A[params.A_at + channel * params.A_stride + n];
  var h = ${hasInitial ? "initial_state[params.initial_state_at + (sequence * params.d_inner + channel) * params.initial_state_stride + n]" : "0.0"};
  let first_chunk = sequence * params.chunks;
  let last = params.chunks - 1u;
  for (var chunk = 0u; chunk < params.chunks; chunk += AHEAD) {
${repeat(
  8,
  (j) => `    let row${j} = first_chunk + ${isReversed ? "last - " : ""}min(chunk + ${j}u, last);
`,
)}
${repeat(
  8,
  (
    j,
  ) => `    let end${j} = chunk_states[(row${j} * params.d_inner + channel) * PADDED_STATE + n]; let sum${j} = sums[row${j} * params.d_inner + channel];
`,
)}
${repeat(8, (j) => chunkStep(j, hasStarts))}
  }
}`,
  }),
);

function chunkStep(j: number, hasStarts: boolean): string {
  const kept = hasStarts ? ` * sums[params.chunks * params.d_inner * params.batch + row${j}]` : "";
  return /* wgsl */ `
    if (chunk + ${j}u <= last) {
      chunk_states[(row${j} * params.d_inner + channel) * PADDED_STATE + n] = h;
      h = exp2(a * sum${j})${kept} * h + end${j};
    }`;
}
