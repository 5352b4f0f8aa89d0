// rotary on the WebGPU backend: a thread turns a vector of pairs in some heads of a row, by angles in fixed point.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import {
  floatsOf,
  gradientUse,
  splitRows,
  storeTo,
  vectorAt,
  vectorType,
  vectorUse,
  vectorWidthOf,
  WORKGROUP,
} from "../webgpu-elements.ts";
import type { RotaryInputs, RotaryOptions, RotaryOutputs } from "./index.ts";
import { turnsOf } from "./turns.ts";

/** Heads that share the angles that a thread has found. */
const HEADS_PER_THREAD = 4;

export function forward(
  { inputs, outputs, options }: ForwardCall<RotaryInputs, RotaryOutputs, RotaryOptions>,
  backend: WebGpuBackend,
): void {
  const { x, positions } = inputs;
  splitRows(backend, { x, y: outputs.y }, (parts, firstRow) => {
    const turned = { ...parts, positions, use: `write ${parts.y.dtype}` as const, isBack: false };
    dispatchTurn(backend, options, turned, { length: x.shape[1], firstRow });
  });
}

export function backward(
  { inputs, options, gradOutputs, gradInputs }: BackwardCall<RotaryInputs, RotaryOutputs, RotaryOptions>,
  backend: WebGpuBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX } = gradInputs;
  if (!gradX || !gradY) return;
  splitRows(backend, { x: gradY, y: gradX }, (parts, firstRow) => {
    const turned = { ...parts, positions: inputs.positions, use: gradientUse(backend, parts.y), isBack: true };
    dispatchTurn(backend, options, turned, { length: inputs.x.shape[1], firstRow });
  });
}

interface Turned {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly positions: Tensor | undefined;
  readonly use: BufferUse;
  readonly isBack: boolean;
}

function dispatchTurn(
  backend: WebGpuBackend,
  { headDim, rotaryDim = headDim, base = 10000 }: RotaryOptions,
  { x, y, positions, use, isBack }: Turned,
  { length, firstRow }: { length: number; firstRow: number },
): void {
  const width = rotaryDim % 8 === 0 && headDim % 4 === 0 ? vectorWidthOf(x, y) : 1;
  const hasPositions = positions !== undefined;
  const kernel = rotaryTurn({ x: x.dtype, y: use, width, headDim, rotaryDim, base, isBack, hasPositions });
  const heads = x.columns / headDim;
  const headGroups = Math.ceil(heads / HEADS_PER_THREAD);
  const threads = x.rows * headGroups * itemsOf({ headDim, rotaryDim, width });
  const params = { rows: x.rows, heads, headGroups, length, firstRow };
  backend.dispatch(kernel, { x, y, ...(positions && { positions }) }, params, groupsFor(threads, WORKGROUP));
}

type TurnSpec = {
  readonly x: string;
  readonly y: BufferUse;
  readonly width: VectorWidth;
  readonly headDim: number;
  readonly rotaryDim: number;
  readonly base: number;
  readonly isBack: boolean;
  readonly hasPositions: boolean;
};

/** Vectors of a head that threads share: pairs, and channels that pass through. */
function itemsOf({ headDim, rotaryDim, width }: Pick<TurnSpec, "headDim" | "rotaryDim" | "width">): number {
  return (headDim - rotaryDim / 2) / width;
}

const rotaryTurn: KernelFamily<TurnSpec> = defineKernel<TurnSpec>(
  "rotary",
  [
    { x: "f32", y: "write f32", width: 4, headDim: 64, rotaryDim: 64, base: 10000, isBack: false, hasPositions: true },
    { x: "f16", y: "add f16", width: 1, headDim: 10, rotaryDim: 6, base: 500, isBack: true, hasPositions: false },
  ],
  (spec) => ({
    buffers: {
      x: `read ${vectorType(spec.x, spec.width)}`,
      ...(spec.hasPositions && { positions: "read i32" }),
      y: vectorUse(spec.y, spec.width),
    },
    params: ["rows", "heads", "headGroups", "length", "firstRow"],
    body: turnBody(spec),
  }),
);

function turnBody({ y, width, headDim, rotaryDim, base, isBack, hasPositions }: TurnSpec): string {
  const half = rotaryDim / 2;
  const store = (value: string, column: string): string => storeTo("y", y, width, { value, column });
  return /* wgsl */ `${floatsOf(width)}
const HEAD = ${headDim / width}u;
const HALF = ${half / width}u;
const ITEMS = ${itemsOf({ headDim, rotaryDim, width })}u;
${anglesOf(rotaryDim, base)}

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  let item = i % ITEMS;
  let row = i / ITEMS / params.headGroups;
  if (row >= params.rows) { return; }
  let first_head = i / ITEMS % params.headGroups * ${HEADS_PER_THREAD}u;
  let end_head = min(first_head + ${HEADS_PER_THREAD}u, params.heads);
  if (item >= HALF) {
    for (var head = first_head; head < end_head; head++) {
      let column = head * HEAD + HALF + item;
      let value = Floats(${vectorAt("x")});
      ${store("value", "column")}
    }
    return;
  }
  let token = params.firstRow + row;
  let position = token % params.length${hasPositions ? " + u32(positions[params.positions_at + token / params.length])" : ""};
  var cosines: Floats;
  var sines: Floats;
${
  width === 4
    ? `  for (var j = 0u; j < 4u; j++) {
    let angle = cos_sin(position, TURNS[item * 4u + j]);
    cosines[j] = angle.x;
    sines[j] = angle.y;
  }`
    : "  let angle = cos_sin(position, TURNS[item]);\n  cosines = angle.x;\n  sines = angle.y;"
}
  ${isBack ? "sines = -sines;" : ""}
  for (var head = first_head; head < end_head; head++) {
    let column = head * HEAD + item;
    let a = Floats(${vectorAt("x")});
    let b = Floats(${vectorAt("x", "row", "column + HALF")});
    ${store("(a * cosines - b * sines)", "column")}
    ${store("(b * cosines + a * sines)", "column + HALF")}
  }
}`;
}

/**
 * WGSL: the table TURNS and `cos_sin(position, turn)`. The fraction of a turn is exact to 2^-32; its nearest quarter turn is
 * taken off, and the rest, at most an eighth of a turn, goes into power series: what sine and cosine of WGSL are worth
 * depends on the device.
 */
const anglesOf = (rotaryDim: number, base: number): string => /* wgsl */ `
const TURNS = array<vec2u, ${rotaryDim / 2}>(${turnsOf(rotaryDim, base)
  .map(([high, low]) => `vec2u(${high}u, ${low}u)`)
  .join(", ")});
const RADIANS = ${(2 * Math.PI) / 2 ** 32}f;

/** The high 32 bits of a product. */
fn high_of(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let first = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let second = (a & 0xffffu) * (b >> 16u) + (first & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (first >> 16u) + (second >> 16u);
}

fn cos_sin(position: u32, turn: vec2u) -> vec2f {
  let fraction = position * turn.x + high_of(position, turn.y);
  let quarter = (fraction + (1u << 29u)) >> 30u;
  let a = f32(bitcast<i32>(fraction - (quarter << 30u))) * RADIANS;
  let s = a * a;
  let sine = a + a * s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880))));
  let cosine = 1.0 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 - s * (1.0 / 3628800)))));
  let is_odd = (quarter & 1u) != 0u;
  let c = select(cosine, sine, is_odd);
  let d = select(sine, cosine, is_odd);
  return vec2f(select(c, -c, ((quarter + 1u) & 2u) != 0u), select(d, -d, (quarter & 2u) != 0u));
}`;
