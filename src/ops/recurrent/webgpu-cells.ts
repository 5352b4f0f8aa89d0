// WGSL of the cells of lstm and gru: what one unit makes of its gates, forward and backward, and where that is stored.
// Formulas: README.md of each.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { CellName } from "./cells.ts";
import { GATES } from "./cells.ts";

/**
 * tanh with a relative error of 1.3e-7: by an odd polynomial (fitted here by Lawson's iteration) up to 0.625, else by the
 * exponential. The tanh of WGSL itself may be off by 1e-5, that of the hardware by more.
 */
const NONLINEAR = /* wgsl */ `
fn sigmoid(v: f32) -> f32 { return 1 / (1 + exp(min(-v, 80.0))); }
fn hyperbolic(v: f32) -> f32 {
  let s = v * v;
  let near = v + v * s * (((0.015195348300039768 * s - 0.05194788798689842) * s + 0.13308174908161163) * s - 0.3333234190940857);
  let e = exp(-2 * min(abs(v), 15.0));
  return select(sign(v) * ((1 - e) / (1 + e)), near, abs(v) < 0.625);
}`;

/**
 * WGSL: `cell(own, sums, h_before, c_before) -> Cell`, where own is what the gates get from x, and sums what they get from
 * the state before; `kept` is what the backward pass needs.
 */
export function cellOf(name: CellName): string {
  return /* wgsl */ `${NONLINEAR}
struct Cell { h: f32, c: f32, kept: vec4f }
fn cell(own: vec4f, sums: vec4f, h_before: f32, c_before: f32) -> Cell {
${CELL[name]}
}`;
}

const CELL = {
  lstm: /* wgsl */ `
  let a = own + sums;
  let kept = vec4f(sigmoid(a.x), sigmoid(a.y), hyperbolic(a.z), sigmoid(a.w));
  let c = kept.y * c_before + kept.x * kept.z;
  return Cell(kept.w * hyperbolic(c), c, kept);`,
  gru: /* wgsl */ `
  let r = sigmoid(own.x + sums.x);
  let z = sigmoid(own.y + sums.y);
  let n = hyperbolic(own.z + r * sums.z);
  return Cell(n + z * (h_before - n), 0.0, vec4f(r, z, n, sums.z));`,
} as const;

/**
 * WGSL: `cell_gradient(kept, h_before, c_before, grad_h, carry) -> CellGradient`: the gradients of what the gates get from
 * the state (pulled) and from x (own), and what the token before gets beside the product of the first.
 */
export function cellGradientOf(name: CellName): string {
  return /* wgsl */ `${NONLINEAR}
struct CellGradient { pulled: vec4f, own: vec4f, carry: f32 }
fn cell_gradient(kept: vec4f, h_before: f32, c_before: f32, grad_h: f32, carry: f32) -> CellGradient {
${CELL_GRADIENT[name]}
}`;
}

const CELL_GRADIENT = {
  lstm: /* wgsl */ `
  let i = kept.x;
  let f = kept.y;
  let g = kept.z;
  let o = kept.w;
  let tanh_c = hyperbolic(f * c_before + i * g);
  let grad_c = carry + grad_h * o * (1 - tanh_c * tanh_c);
  let own = vec4f(
    grad_c * g * i * (1 - i),
    grad_c * c_before * f * (1 - f),
    grad_c * i * (1 - g * g),
    grad_h * tanh_c * o * (1 - o));
  return CellGradient(own, own, grad_c * f);`,
  gru: /* wgsl */ `
  let r = kept.x;
  let z = kept.y;
  let n = kept.z;
  let grad = grad_h + carry;
  let grad_n = grad * (1 - z) * (1 - n * n);
  let grad_z = grad * (h_before - n) * z * (1 - z);
  let grad_r = grad_n * kept.w * r * (1 - r);
  return CellGradient(vec4f(grad_r, grad_z, grad_n * r, 0.0), vec4f(grad_r, grad_z, grad_n, 0.0), grad * z);`,
} as const;

/** What a kernel that runs cells reads and writes, a part of its specification. */
export type CellSpec = {
  readonly cell: CellName;
  readonly gates: string;
  readonly y: string;
  /** Whether there are documentStarts. */
  readonly starts: boolean;
  /** Whether the gates are kept for the backward pass. */
  readonly saves: boolean;
};

/** Buffers of {@link cellAccess}; `before` holds h, and behind it c, by sequence and slot. */
export function cellBuffers({ cell, gates, y, starts, saves }: CellSpec): Record<string, BufferUse> {
  return {
    gates: `read ${gates}`,
    ...(cell === "gru" && { bias: "read f32" as const }),
    ...(starts && { starts: "read i32" as const }),
    before: "add f32",
    y: `write ${y}`,
    ...(saves && { activated: "write f32" as const }),
    finalH: "write f32",
    ...(cell === "lstm" && { finalC: "write f32" as const }),
  };
}

/** Parameters of {@link cellAccess}. */
export const CELL_PARAMS: readonly string[] = ["batch", "length", "slots", "dHidden"];

/**
 * WGSL: `own_of(sequence, t, unit)`; `bias_of(unit)`; `state_of(sequence, t, unit)`, h, and with `params.dHidden` added c;
 * `store_cell(sequence, t, unit, cell) -> Cell`, which stores a token's results and gives the state before the next one.
 */
export function cellAccess({ cell, y, starts, saves }: CellSpec): string {
  const gate = (buffer: string, index: number): string =>
    index < GATES[cell] ? `f32(${buffer}[at + ${index}u * params.dHidden])` : "0.0";
  const gatesOf = (buffer: string): string => `vec4f(${[0, 1, 2, 3].map((index) => gate(buffer, index)).join(", ")})`;
  const hasC = cell === "lstm";
  return /* wgsl */ `
fn own_of(sequence: u32, t: u32, unit: u32) -> vec4f {
  let at = params.gates_at + (sequence * params.length + t) * params.gates_stride + unit;
  return ${gatesOf("gates")};
}
fn bias_of(unit: u32) -> vec4f {
  ${cell === "gru" ? `let at = params.bias_at + unit;\n  return ${gatesOf("bias")};` : "return vec4f();"}
}
fn state_at(sequence: u32, t: u32) -> u32 {
  return params.before_at + (sequence * params.slots + t % params.slots) * params.before_stride;
}
fn state_of(sequence: u32, t: u32, unit: u32) -> f32 { return before[state_at(sequence, t) + unit]; }
fn store_cell(sequence: u32, t: u32, unit: u32, made: Cell) -> Cell {
  let row = sequence * params.length + t;
  y[params.y_at + row * params.y_stride + unit] = ${y}(made.h);
  ${saves ? STORE_KEPT : ""}
  var next = made;
  if (t + 1u == params.length) {
    finalH[params.finalH_at + sequence * params.finalH_stride + unit] = made.h;
    ${hasC ? "finalC[params.finalC_at + sequence * params.finalC_stride + unit] = made.c;" : ""}
    return next;
  }
  ${starts ? FORGET : ""}
  let at = state_at(sequence, t + 1u) + unit;
  before[at] = next.h;
  ${hasC ? "before[at + params.dHidden] = next.c;" : ""}
  return next;
}`;
}

const STORE_KEPT = /* wgsl */ `
  let kept_at = params.activated_at + row * params.activated_stride + unit;
  activated[kept_at] = made.kept.x;
  activated[kept_at + params.dHidden] = made.kept.y;
  activated[kept_at + 2u * params.dHidden] = made.kept.z;
  activated[kept_at + 3u * params.dHidden] = made.kept.w;`;

const FORGET = /* wgsl */ `
  if (starts[params.starts_at + sequence * params.starts_stride + t + 1u] != 0) {
    next.h = 0.0;
    next.c = 0.0;
  }`;
