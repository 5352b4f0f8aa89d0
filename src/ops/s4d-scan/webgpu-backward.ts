// The gradients of S4D's recurrence over a chunk of time, from right to left: states are computed again from those saved.
// Threads as in webgpu-forward.ts. See README.md.
import type { KernelFamily } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { CHANNELS, DISCRETE, LANES } from "../s4d-kernel/webgpu-parameters.ts";
import { CHUNK_PARAMS, startsText, threadText } from "./webgpu-forward.ts";

/** Steps whose states are held at once: what workgroup memory of 16 KiB has room for. A divisor of CHUNK. */
export const BACKWARD_TILE = 16;

export type BackwardSpec = {
  /** Pairs of a thread. */
  pairs: number;
  x: string;
  /** Undefined: y was not used. */
  gradY: string | undefined;
  /** What comes back from behind a chunk. */
  end: "zero" | "final" | "chunks";
  gradX: BufferUse | undefined;
  gradInitial: BufferUse | undefined;
  hasD: boolean;
  hasStarts: boolean;
};

const PLAIN = { hasD: false, hasStarts: false };
const ALL = { hasD: true, hasStarts: true };

export const s4dScanBackward: KernelFamily<BackwardSpec> = defineKernel<BackwardSpec>(
  "s4dScanBackward",
  [
    { pairs: 2, x: "f32", gradY: "f32", end: "zero", gradX: "write f32", gradInitial: undefined, ...PLAIN },
    { pairs: 1, x: "f16", gradY: "f16", end: "final", gradX: "add f16", gradInitial: "write f32", ...ALL },
    { pairs: 4, x: "f32", gradY: undefined, end: "chunks", gradX: "add f32", gradInitial: "add f32", ...ALL },
    { pairs: 4, x: "f32", gradY: "f32", end: "chunks", gradX: undefined, gradInitial: undefined, ...PLAIN },
  ],
  (spec) => ({
    buffers: {
      discrete: "read u32",
      x: `read ${spec.x}` as BufferUse,
      ...(spec.gradY && { grad_y: `read ${spec.gradY}` as BufferUse }),
      ...(spec.hasStarts && { document_starts: "read i32" }),
      saved: "read vec2<f32>",
      ...(spec.end === "final" && { grad_final: "read f32" }),
      ...(spec.end === "chunks" && { chunk_states: "read vec2<f32>" }),
      partials: "write f32",
      ...(spec.gradX && { grad_x: spec.gradX }),
      ...(spec.gradInitial && { grad_initial: spec.gradInitial }),
    },
    params: [...CHUNK_PARAMS, "save_every", "saved_chunks"],
    body: backwardBody(spec),
  }),
);

function backwardBody({ pairs, gradY, end, gradX, gradInitial, hasD, hasStarts }: BackwardSpec): string {
  return /* wgsl */ `${DISCRETE}${threadText(pairs)}${startsText(hasStarts)}
const TILE = ${BACKWARD_TILE}u;
${gradX ? `var<workgroup> parts: array<f32, ${BACKWARD_TILE * CHANNELS * LANES}>;` : ""}

fn input_at(place: Place, step: u32) -> f32 {
  return f32(x[params.x_at + (place.sequence * params.length + step) * params.x_stride + place.channel]);
}
fn gradient_at(place: Place, step: u32) -> f32 {
  ${gradY ? "return f32(grad_y[params.grad_y_at + (place.sequence * params.length + step) * params.grad_y_stride + place.channel]);" : "return 0.0;"}
}

@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let place = place_of(group, thread);
  let first = group.y * params.chunk_steps;
  let end = min(params.length, first + params.chunk_steps);
  // What comes back to the step behind: ABar G.
  var back: array<vec2f, PAIRS>;
  var of_power: array<vec2f, PAIRS>;
  var of_b: array<vec2f, PAIRS>;
  var of_c: array<vec2f, PAIRS>;
  for (var i = 0u; i < PAIRS; i++) {
    let pair = pair_of(place, i);
    if (pair < params.pairs) {${ENDS[end]}
    }
  }
  let tiles = (end - first + TILE - 1u) / TILE;
  for (var left = tiles; left > 0u; left--) {
    let tile = first + (left - 1u) * TILE;
    var gradients = array<f32, TILE>();
    for (var i = 0u; i < PAIRS; i++) {
      let pair = pair_of(place, i);
      if (pair < params.pairs) {${PAIR_TEXT}
      }
    }
    ${gradX ? gradXText(gradX, hasD) : ""}
  }
  if (!place.is_channel) { return; }
  let part = params.partials_at + (place.sequence * params.chunks + place.chunk) * params.partials_stride;
  let plane = params.pairs * params.channels;
  for (var i = 0u; i < PAIRS; i++) {
    let pair = pair_of(place, i);
    if (pair < params.pairs) {
      let to = part + pair * params.channels + place.channel;
      partials[to] = of_power[i].x;
      partials[to + plane] = of_power[i].y;
      partials[to + 2u * plane] = of_b[i].x;
      partials[to + 3u * plane] = of_b[i].y;
      partials[to + 4u * plane] = of_c[i].x;
      partials[to + 5u * plane] = of_c[i].y;
      ${gradInitial ? gradInitialText(gradInitial) : ""}
    }
  }
}`;
}

const ENDS: Readonly<Record<BackwardSpec["end"], string>> = {
  zero: "",
  final: /* wgsl */ `
      let column = params.grad_final_at + (place.sequence * params.channels + place.channel) * params.grad_final_stride + 2u * pair;
      back[i] = vec2f(grad_final[column], -grad_final[column + 1u]);`,
  chunks: /* wgsl */ `
      back[i] = chunk_states[((place.sequence * params.chunks + place.chunk) * params.pairs + pair) * params.channels + place.channel];`,
};

/** A pair of a thread through a tile: its states, forward from the last that was saved, then back. */
const PAIR_TEXT = /* wgsl */ `
        let a_bar = complex_of(A_BAR, pair, place.channel);
        let b_bar = complex_of(B_BAR, pair, place.channel);
        let c = 2.0 * complex_of(OF_C, pair, place.channel);
        let chunk = place.sequence * params.saved_chunks + tile / params.save_every;
        var h = saved[params.saved_at / 2u + (chunk * params.pairs + pair) * params.channels + place.channel];
        for (var step = tile / params.save_every * params.save_every; step < tile; step++) {
          h = times(a_bar, select(h, vec2f(0), is_start(place, step))) + b_bar * input_at(place, step);
        }
        // The states before each step.
        var path: array<vec2f, TILE>;
        for (var t = 0u; t < TILE; t++) {
          path[t] = h;
          let step = min(tile + t, end - 1u);
          h = times(a_bar, select(h, vec2f(0), is_start(place, step))) + b_bar * input_at(place, step);
        }
        // In variables of its own: elements of arrays would be read and written at every step.
        var returns = back[i];
        var power_sum = vec2f(0);
        var b_sum = vec2f(0);
        var c_sum = vec2f(0);
        for (var t = TILE; t > 0u; t--) {
          let step = tile + t - 1u;
          if (step < end) {
            let input = input_at(place, step);
            let gradient = gradient_at(place, step);
            let is_new = is_start(place, step);
            let before = path[t - 1u];
            let after = times(a_bar, select(before, vec2f(0), is_new)) + b_bar * input;
            let g = returns + c * gradient;
            b_sum += g * input;
            c_sum += after * gradient;
            gradients[t - 1u] += g.x * b_bar.x - g.y * b_bar.y;
            returns = select(times(a_bar, g), vec2f(0), is_new);
            power_sum += times(returns, before);
          }
        }
        back[i] = returns;
        of_power[i] += power_sum;
        of_b[i] += b_sum;
        of_c[i] += c_sum;`;

function gradXText(use: BufferUse, hasD: boolean): string {
  const [access, type] = use.split(" ");
  return /* wgsl */ `
    for (var t = 0u; t < TILE; t++) { parts[(t * LANES + place.lane) * CHANNELS + thread % CHANNELS] = gradients[t]; }
    workgroupBarrier();
    for (var t = place.lane; t < TILE; t += LANES) {
      let step = tile + t;
      if (step < end && place.is_channel) {
        var sum = 0.0;
        for (var other = 0u; other < LANES; other++) { sum += parts[(t * LANES + other) * CHANNELS + thread % CHANNELS]; }
        ${hasD ? "sum += skip_of(place.channel) * gradient_at(place, step);" : ""}
        let to = params.grad_x_at + (place.sequence * params.length + step) * params.grad_x_stride + place.channel;
        grad_x[to] = ${type}(${access === "add" ? "f32(grad_x[to]) + " : ""}sum);
      }
    }
    workgroupBarrier();`;
}

function gradInitialText(use: BufferUse): string {
  const add = use.startsWith("add");
  return /* wgsl */ `
      if (place.chunk == 0u) {
        let column = params.grad_initial_at + (place.sequence * params.channels + place.channel) * params.grad_initial_stride + 2u * pair;
        grad_initial[column] = ${add ? "grad_initial[column] + " : ""}back[i].x;
        grad_initial[column + 1u] = ${add ? "grad_initial[column + 1u] " : ""}- back[i].y;
      }`;
}
