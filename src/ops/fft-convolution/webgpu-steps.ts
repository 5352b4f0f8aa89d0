// WGSL that moves sequences and spectra between memory and a workgroup: all loads of a thread are on their way before the
// first is used, and none stands under a condition, which would make each wait for the one before.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import { THREADS } from "./webgpu-stages.ts";

/**
 * WGSL: for i below `count`, loads `load` (vec2f, an expression of i that may be evaluated for any i below `count`), all of
 * a thread's at once, and then runs `use` with i and `value`.
 */
export function batched(count: number, { load, use }: { load: string; use: string }): string {
  const most = Math.ceil(count / THREADS);
  return /* wgsl */ `
  {
    var values: array<vec2f, ${most}>;
    for (var k = 0u; k < ${most}u; k++) {
      let i = min(thread + k * ${THREADS}u, ${count - 1}u);
      values[k] = ${load};
    }
    for (var k = 0u; k < ${most}u; k++) {
      let i = thread + k * ${THREADS}u;
      let value = values[k];
      if (i < ${count}u) { ${use} }
    }
  }`;
}

/** WGSL: point `place` of a sequence of x, two steps; zeros behind the last step. Beside the last channel its neighbour's. */
export function readSteps(): string {
  return /* wgsl */ `
fn steps_of_x(sequence: u32, place: u32, channel: u32) -> vec2f {
  let step = 2u * place;
  let last = params.length - 1u;
  let column = params.x_at + sequence * params.length * params.x_stride + min(channel, params.channels - 1u);
  let steps = vec2f(f32(x[column + min(step, last) * params.x_stride]), f32(x[column + min(step + 1u, last) * params.x_stride]));
  return select(vec2f(0), steps, vec2<bool>(step <= last, step < last));
}`;
}

/**
 * WGSL: `steps_beside`, what is added to a point of y: D x where there is D, and what y holds where it is added to; and
 * `put_steps`, which writes a point.
 */
export function writeSteps(use: BufferUse, hasD: boolean): string {
  const [access, type] = use.split(" ");
  return /* wgsl */ `
fn steps_beside(sequence: u32, place: u32, channel: u32) -> vec2f {
  var value = vec2f(0);
  ${hasD ? "value += D[params.D_at + min(channel, params.channels - 1u)] * steps_of_x(sequence, place, channel);" : ""}
  ${access === "add" ? OLD_STEPS : ""}
  return value;
}

fn put_steps(sequence: u32, place: u32, channel: u32, steps: vec2f) {
  let step = 2u * place;
  if (channel >= params.channels || step >= params.length) { return; }
  let row = params.y_at + (sequence * params.length + step) * params.y_stride + channel;
  y[row] = ${type}(steps.x);
  if (step + 1u < params.length) { y[row + params.y_stride] = ${type}(steps.y); }
}`;
}

const OLD_STEPS = /* wgsl */ `
  let last = params.length - 1u;
  let column = params.y_at + sequence * params.length * params.y_stride + min(channel, params.channels - 1u);
  value += vec2f(f32(y[column + min(2u * place, last) * params.y_stride]), f32(y[column + min(2u * place + 1u, last) * params.y_stride]));`;
