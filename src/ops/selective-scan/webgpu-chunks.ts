// The short scan over the chunks of a sequence: what each leaves behind becomes the state before the next. See README.md.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import { repeat } from "./webgpu-wgsl.ts";

export type ChunksSpec = {
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
    { stepVectors: 4, hasInitial: false, hasStarts: false, isReversed: false },
    { stepVectors: 1, hasInitial: true, hasStarts: true, isReversed: true },
  ],
  ({ stepVectors, hasInitial, hasStarts, isReversed }) => ({
    buffers: {
      packed: "read vec4<f32>",
      sums: "read f32",
      ...(hasInitial ? { initial_state: "read f32" } : {}),
      chunk_states: "add f32",
    },
    params: ["batch", "d_inner", "d_state", "chunks", "packed_A"],
    body: /* wgsl */ `
const PADDED_STATE = ${4 * stepVectors}u;
// Chunks whose end states are on their way from memory at once.
const AHEAD = 8u;

@compute @workgroup_size(${CHUNKS_WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let sequence = group.y;
  let i = group.x * ${CHUNKS_WORKGROUP}u + thread;
  let channel = i / PADDED_STATE;
  let n = i % PADDED_STATE;
  if (channel >= params.d_inner || n >= params.d_state) { return; }
  let a = packed[params.packed_A + i / 4u][n % 4u];
  var h = ${hasInitial ? "initial_state[params.initial_state_at + (sequence * params.d_inner + channel) * params.initial_state_stride + n]" : "0.0"};
  let state_at = params.chunk_states_at + channel * PADDED_STATE + n;
  let state_step = params.d_inner * PADDED_STATE;
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
  ) => `    let end${j} = chunk_states[state_at + row${j} * state_step]; let sum${j} = sums[row${j} * params.d_inner + channel];
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
      chunk_states[state_at + row${j} * state_step] = h;
      h = exp2(a * sum${j})${kept} * h + end${j};
    }`;
}
