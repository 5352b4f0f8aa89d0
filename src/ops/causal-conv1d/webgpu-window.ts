// What the forward and backward WebGPU kernels of causalConv1d share: where inputs come from, and the window that slides.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { SIGMOID, vectorAt, vectorType } from "../webgpu-elements.ts";

/** What a kernel is made for: a part of its specification. */
export type WindowSpec = {
  x: string;
  width: VectorWidth;
  /** Weights of a channel. */
  taps: number;
  silu: boolean;
  bias: boolean;
  /** Where inputs before the first come from; "inPlace": from the memory of the final state. */
  initial: "zeros" | "state" | "inPlace";
  starts: boolean;
  /** Steps whose inputs are read before the first of them is used. */
  atOnce: number;
};

/** The buffers that {@link windowText} reads. */
export function windowBuffers({ x, width, bias, initial, starts }: WindowSpec): Record<string, BufferUse> {
  return {
    x: `read ${vectorType(x, width)}`,
    weight: "read f32",
    ...(bias && { bias: `read ${vectorType("f32", width)}` as BufferUse }),
    ...(initial === "state" && { initialState: `read ${vectorType("f32", width)}` as BufferUse }),
    ...(starts && { documentStarts: "read i32" }),
  };
}

/**
 * WGSL beside that of floatsOf, where columns count vectors of channels and `seen` is the window: the inputs of times t - TAPS + 1 to t.
 * Parameter: `length`.
 */
export function windowText(spec: WindowSpec): string {
  const { width, taps, silu, bias, initial, starts, atOnce } = spec;
  const state = initial === "inPlace" ? "finalState" : "initialState";
  return /* wgsl */ `
const TAPS = ${taps}u;
const AT_ONCE = ${atOnce}u;
var<private> seen: array<Floats, TAPS>;

fn input_at(b: u32, time: u32, column: u32) -> Floats {
  return Floats(${vectorAt("x", "b * params.length + time")});
}

/** The input of time start - back, which may lie before the first. */
fn input_before(b: u32, start: u32, back: u32, column: u32) -> Floats {
  if (back <= start) { return input_at(b, start - back, column); }
  return ${initial === "zeros" ? "Floats(0)" : vectorAt(state, "(b + 1u) * (TAPS - 1u) + start - back")};
}

/** Whether nothing before this time may be seen from it on. */
fn is_start(b: u32, time: u32) -> bool {
  return ${starts ? "documentStarts[params.documentStarts_at + b * params.documentStarts_stride + time] != 0" : "false"};
}

/** Moves the window on to a time, whose input is \`newest\`. */
fn see(newest: Floats, starts_here: bool) {
  for (var k = 1u; k < TAPS; k++) {
    ${starts ? "seen[k - 1u] = select(seen[k], Floats(0), starts_here);" : "seen[k - 1u] = seen[k];"}
  }
  seen[TAPS - 1u] = newest;
}

/** Fills the window with what is before \`start\`. */
fn see_before(b: u32, start: u32, column: u32) {
  for (var back = TAPS - 1u; back > 0u; back--) {
    see(input_before(b, start, back, column), back <= start && is_start(b, start - back));
  }
}

fn weight_of(column: u32, k: u32) -> Floats {
  let at = params.weight_at + column * WIDTH * params.weight_stride + k;
  return ${width === 1 ? "weight[at]" : WEIGHTS_OF_FOUR};
}

fn bias_of(column: u32) -> Floats {
  return ${bias ? vectorAt("bias", "0u") : "Floats(0)"};
}

${SIGMOID}
fn activate(v: Floats) -> Floats { return ${silu ? "v * sigmoid(v)" : "v"}; }
fn slope_of(v: Floats) -> Floats {
  let s = sigmoid(v);
  return ${silu ? "s * (1 + v * (1 - s))" : "Floats(1)"};
}`;
}

const WEIGHTS_OF_FOUR = /* wgsl */ `Floats(
    weight[at],
    weight[at + params.weight_stride],
    weight[at + 2u * params.weight_stride],
    weight[at + 3u * params.weight_stride])`;
