// The recurrence of S4D over a chunk of time, forward or (for what comes back) in reverse: a workgroup has 32 channels and 8
// threads for each, which share the pairs. See README.md.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { CHANNELS, DISCRETE, LANES } from "../s4d-kernel/webgpu-parameters.ts";

/** Steps between barriers. */
const TILE = 8;

/** Where the state before a chunk comes from; inPlace: from finalState, which is written over it. */
export type StateSource = "zero" | "initial" | "inPlace" | "chunks";

export type ForwardSpec = {
  /** Pairs of a thread. */
  pairs: number;
  x: string;
  y: string;
  start: StateSource;
  hasD: boolean;
  hasStarts: boolean;
  saves: boolean;
};

/** Parameters of kernels over chunks. */
export const CHUNK_PARAMS: readonly string[] = ["channels", "pairs", "length", "chunk_steps", "chunks"];

/** WGSL: which channel, pairs and steps a thread has; and the states of its pairs in buffers. */
export const threadText = (pairs: number): string => /* wgsl */ `
const PAIRS = ${pairs}u;
const CHANNELS = ${CHANNELS}u;
const LANES = ${LANES}u;

struct Place { channel: u32, lane: u32, sequence: u32, chunk: u32, is_channel: bool }

fn place_of(group: vec3u, thread: u32) -> Place {
  let channel = group.x * CHANNELS + thread % CHANNELS;
  let is_channel = channel < params.channels;
  return Place(min(channel, params.channels - 1u), thread / CHANNELS, group.z, group.y, is_channel);
}

/** The number of the i-th pair of a thread. */
fn pair_of(place: Place, i: u32) -> u32 { return i * LANES + place.lane; }
`;

/** WGSL: whether a document starts at a step. */
export const startsText = (hasStarts: boolean): string =>
  hasStarts
    ? /* wgsl */ `
fn is_start(place: Place, step: u32) -> bool {
  return document_starts[params.document_starts_at + place.sequence * params.document_starts_stride + step] != 0;
}`
    : /* wgsl */ `
fn is_start(place: Place, step: u32) -> bool { return false; }`;

/** y and final states; from the state before each chunk. */
export const s4dScanForward: KernelFamily<ForwardSpec> = defineKernel<ForwardSpec>(
  "s4dScan",
  [
    { pairs: 2, x: "f32", y: "f32", start: "zero", hasD: false, hasStarts: false, saves: true },
    { pairs: 1, x: "f16", y: "f16", start: "initial", hasD: true, hasStarts: true, saves: false },
    { pairs: 4, x: "f32", y: "f32", start: "inPlace", hasD: true, hasStarts: true, saves: false },
    { pairs: 4, x: "f32", y: "f32", start: "chunks", hasD: true, hasStarts: false, saves: true },
  ],
  (spec) => ({
    buffers: {
      discrete: "read u32",
      x: `read ${spec.x}` as BufferUse,
      ...(spec.hasStarts && { document_starts: "read i32" }),
      ...(spec.start === "initial" && { initial_state: "read f32" }),
      ...(spec.start === "chunks" && { chunk_states: "read vec2<f32>" }),
      ...(spec.saves && { saved: "write vec2<f32>" }),
      y: `write ${spec.y}` as BufferUse,
      final_state: `${spec.start === "inPlace" ? "add" : "write"} f32` as BufferUse,
    },
    params: [...CHUNK_PARAMS, "save_every", "saved_chunks"],
    body: forwardBody(spec),
  }),
);

const STARTS: Readonly<Record<StateSource, string>> = {
  zero: "",
  initial: /* wgsl */ `
      let column = params.initial_state_at + (place.sequence * params.channels + place.channel) * params.initial_state_stride + 2u * pair;
      h[i] = vec2f(initial_state[column], initial_state[column + 1u]);`,
  inPlace: /* wgsl */ `
      let column = params.final_state_at + (place.sequence * params.channels + place.channel) * params.final_state_stride + 2u * pair;
      h[i] = vec2f(final_state[column], final_state[column + 1u]);`,
  chunks: /* wgsl */ `
      h[i] = chunk_states[((place.sequence * params.chunks + place.chunk) * params.pairs + pair) * params.channels + place.channel];`,
};

function forwardBody({ pairs, y, start, hasD, hasStarts, saves }: ForwardSpec): string {
  return /* wgsl */ `${DISCRETE}${threadText(pairs)}${startsText(hasStarts)}
const TILE = ${TILE}u;
var<workgroup> parts: array<f32, ${TILE * CHANNELS * LANES}>;

@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let place = place_of(group, thread);
  let first = group.y * params.chunk_steps;
  let end = min(params.length, first + params.chunk_steps);
  var h: array<vec2f, PAIRS>;
  var a_bar: array<vec2f, PAIRS>;
  var b_bar: array<vec2f, PAIRS>;
  var c: array<vec2f, PAIRS>;
  for (var i = 0u; i < PAIRS; i++) {
    let pair = pair_of(place, i);
    if (pair < params.pairs) {
      a_bar[i] = complex_of(A_BAR, pair, place.channel);
      b_bar[i] = complex_of(B_BAR, pair, place.channel);
      c[i] = 2.0 * complex_of(OF_C, pair, place.channel);${STARTS[start]}
    }
  }
  let row = place.sequence * params.length;
  for (var tile = first; tile < end; tile += TILE) {
    ${saves ? SAVE : ""}
    for (var t = 0u; t < TILE; t++) {
      let step = min(tile + t, end - 1u);
      let input = f32(x[params.x_at + (row + step) * params.x_stride + place.channel]);
      let goes_on = tile + t < end;
      let is_new = is_start(place, step);
      var sum = 0.0;
      for (var i = 0u; i < PAIRS; i++) {
        let before = select(h[i], vec2f(0), is_new);
        let after = times(a_bar[i], before) + b_bar[i] * input;
        if (goes_on) { h[i] = after; }
        sum += c[i].x * after.x - c[i].y * after.y;
      }
      parts[(t * LANES + place.lane) * CHANNELS + thread % CHANNELS] = sum;
    }
    workgroupBarrier();
    // A lane adds up the steps that are its own.
    for (var t = place.lane; t < TILE; t += LANES) {
      let step = tile + t;
      if (step < end && place.is_channel) {
        var sum = 0.0;
        for (var other = 0u; other < LANES; other++) { sum += parts[(t * LANES + other) * CHANNELS + thread % CHANNELS]; }
        ${hasD ? "sum += skip_of(place.channel) * f32(x[params.x_at + (row + step) * params.x_stride + place.channel]);" : ""}
        y[params.y_at + (row + step) * params.y_stride + place.channel] = ${y}(sum);
      }
    }
    workgroupBarrier();
  }
${WRITE_FINAL}
}`;
}

/** WGSL: the states after the last step. */
const WRITE_FINAL = /* wgsl */ `
  if (end < params.length || !place.is_channel) { return; }
  for (var i = 0u; i < PAIRS; i++) {
    let pair = pair_of(place, i);
    if (pair < params.pairs) {
      let column = params.final_state_at + (place.sequence * params.channels + place.channel) * params.final_state_stride + 2u * pair;
      final_state[column] = h[i].x;
      final_state[column + 1u] = h[i].y;
    }
  }`;

/** WGSL: saves the states before a tile for the backward pass, `[sequence][saved chunk][pair][channel]`. */
const SAVE = /* wgsl */ `
    if (tile % params.save_every == 0u && place.is_channel) {
      for (var i = 0u; i < PAIRS; i++) {
        let pair = pair_of(place, i);
        if (pair < params.pairs) {
          let chunk = place.sequence * params.saved_chunks + tile / params.save_every;
          saved[params.saved_at / 2u + (chunk * params.pairs + pair) * params.channels + place.channel] = h[i];
        }
      }
    }`;

export type EndsSpec = { pairs: number; x: string; hasStarts: boolean; isReversed: boolean };

/**
 * What a chunk that begins with zeros leaves behind. Forward: h = ABar h + BBar x. Reversed: h = ABar (h + 2 C x), from the
 * last step to the first, where x is grad.y; nothing goes past the start of a document. Forward it also writes whether the
 * state before a chunk reaches its end (no document starts in it).
 */
export const s4dScanEnds: KernelFamily<EndsSpec> = defineKernel<EndsSpec>(
  "s4dScanEnds",
  [
    { pairs: 2, x: "f32", hasStarts: true, isReversed: false },
    { pairs: 1, x: "f16", hasStarts: false, isReversed: true },
  ],
  ({ pairs, x, hasStarts, isReversed }) => ({
    buffers: {
      discrete: "read u32",
      x: `read ${x}` as BufferUse,
      ...(hasStarts && { document_starts: "read i32" }),
      chunk_states: "write vec2<f32>",
      kept: "write f32",
    },
    params: CHUNK_PARAMS,
    body: /* wgsl */ `${DISCRETE}${threadText(pairs)}${startsText(hasStarts)}

@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let place = place_of(group, thread);
  let first = group.y * params.chunk_steps;
  let end = min(params.length, first + params.chunk_steps);
  var h: array<vec2f, PAIRS>;
  var a_bar: array<vec2f, PAIRS>;
  var b: array<vec2f, PAIRS>;
  for (var i = 0u; i < PAIRS; i++) {
    let pair = pair_of(place, i);
    if (pair < params.pairs) {
      a_bar[i] = complex_of(A_BAR, pair, place.channel);
      b[i] = ${isReversed ? "2.0 * complex_of(OF_C, pair, place.channel)" : "complex_of(B_BAR, pair, place.channel)"};
    }
  }
  let row = place.sequence * params.length;
  var is_kept = 1.0;
  for (var t = 0u; t < end - first; t++) {
    let step = ${isReversed ? "end - 1u - t" : "first + t"};
    let input = f32(x[params.x_at + (row + step) * params.x_stride + place.channel]);
    let is_new = is_start(place, step);
    is_kept = select(is_kept, 0.0, is_new);
    for (var i = 0u; i < PAIRS; i++) {
      ${
        isReversed
          ? "h[i] = select(times(a_bar[i], h[i] + b[i] * input), vec2f(0), is_new);"
          : "h[i] = times(a_bar[i], select(h[i], vec2f(0), is_new)) + b[i] * input;"
      }
    }
  }
  if (thread == 0u && group.x == 0u) { kept[place.sequence * params.chunks + place.chunk] = is_kept; }
  if (!place.is_channel) { return; }
  for (var i = 0u; i < PAIRS; i++) {
    let pair = pair_of(place, i);
    if (pair < params.pairs) {
      chunk_states[((place.sequence * params.chunks + place.chunk) * params.pairs + pair) * params.channels + place.channel] = h[i];
    }
  }
}`,
  }),
);

export type ChunksSpec = { hasInitial: boolean; isReversed: boolean };

/**
 * From what chunks leave behind, the state before each (or, reversed, what comes back to each from the chunks behind it):
 * in place, along the chunks. A thread has a pair of a channel.
 */
export const s4dScanChunks: KernelFamily<ChunksSpec> = defineKernel<ChunksSpec>(
  "s4dScanChunks",
  [
    { hasInitial: true, isReversed: false },
    { hasInitial: false, isReversed: true },
    { hasInitial: true, isReversed: true },
  ],
  ({ hasInitial, isReversed }) => ({
    buffers: {
      discrete: "read u32",
      kept: "read f32",
      ...(hasInitial && { initial_state: "read f32" }),
      chunk_states: "add vec2<f32>",
    },
    params: CHUNK_PARAMS,
    body: /* wgsl */ `${DISCRETE}
@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let channel = group.x * ${CHANNELS}u + thread % ${CHANNELS}u;
  let pair = group.y * ${LANES}u + thread / ${CHANNELS}u;
  if (channel >= params.channels || pair >= params.pairs) { return; }
  var h = vec2f(0);
  ${hasInitial ? INITIAL.replace("SIGN", isReversed ? "-" : "") : ""}
  for (var i = 0u; i < params.chunks; i++) {
    let chunk = ${isReversed ? "params.chunks - 1u - i" : "i"};
    let first = chunk * params.chunk_steps;
    let steps = min(params.length, first + params.chunk_steps) - first;
    let at = ((group.z * params.chunks + chunk) * params.pairs + pair) * params.channels + channel;
    let left = chunk_states[at];
    chunk_states[at] = h;
    h = left + kept[group.z * params.chunks + chunk] * times(power(pair, channel, steps), h);
  }
}`,
  }),
);

/** The state before all; or, of a gradient, its conjugate. */
const INITIAL = /* wgsl */ `
  let column = params.initial_state_at + (group.z * params.channels + channel) * params.initial_state_stride + 2u * pair;
  h = vec2f(initial_state[column], SIGNinitial_state[column + 1u]);`;
