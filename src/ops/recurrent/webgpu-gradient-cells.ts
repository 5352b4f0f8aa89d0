// What the backward kernels of a recurrence read and write of a token.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";
import type { CellName } from "./cells.ts";
import { GATES } from "./cells.ts";

/** A part of a kernel's specification. */
export type GradientSpec = {
  readonly cell: CellName;
  /** Element type of y's gradient; none: only the final state has one. */
  readonly gradY: string | undefined;
  readonly starts: boolean;
  /** The gradient of gates, where it is not `pulled` itself. */
  readonly gradGates: BufferUse | undefined;
};

/**
 * Buffers of {@link gradientAccess}. `pulled`: the gradients of what the gates get from the state, by token. `carry`: what a
 * token hands to the one before beside the product of those with the weight.
 */
export function gradientBuffers({ gradY, starts, gradGates }: GradientSpec): Record<string, BufferUse> {
  return {
    activated: "read f32",
    before: "read f32",
    ...(starts && { starts: "read i32" as const }),
    ...(gradY && { gradY: `read ${gradY}` as const }),
    carry: "add f32",
    pulled: "write f32",
    ...(gradGates && { gradGates }),
  };
}

/** Parameters of {@link gradientAccess}. */
export const GRADIENT_PARAMS: readonly string[] = ["batch", "length", "dHidden"];

/**
 * WGSL: `keep_of(sequence, t)`, 0 where the state is forgotten before token t, else 1; `token_of(sequence, t, unit) -> Token`;
 * `store_gradient(sequence, t, unit, CellGradient)`.
 */
export function gradientAccess(spec: GradientSpec): string {
  const { cell, gradY, gradGates } = spec;
  return /* wgsl */ `${keepOf(spec.starts)}
struct Token { kept: vec4f, h_before: f32, c_before: f32, grad_y: f32 }
fn token_of(sequence: u32, t: u32, unit: u32) -> Token {
  let row = sequence * params.length + t;
  let at = params.activated_at + row * params.activated_stride + unit;
  let kept = vec4f(
    activated[at],
    activated[at + params.dHidden],
    activated[at + 2u * params.dHidden],
    activated[at + 3u * params.dHidden]);
  let state = params.before_at + row * params.before_stride + unit;
  let grad_y = ${gradY ? "f32(gradY[params.gradY_at + row * params.gradY_stride + unit])" : "0.0"};
  return Token(kept, before[state], ${cell === "lstm" ? "before[state + params.dHidden]" : "0.0"}, grad_y);
}
fn store_gradient(sequence: u32, t: u32, unit: u32, grad: CellGradient) {
  let row = sequence * params.length + t;
  let at = params.pulled_at + row * params.pulled_stride + unit;
  ${storeGates(cell, (gate, component) => `pulled[at + ${gate}u * params.dHidden] = grad.pulled.${component};`)}
  ${gradGates ? storeGradGates(cell, gradGates) : ""}
}`;
}

/** WGSL: `keep_of`; see {@link gradientAccess}. */
export function keepOf(starts: boolean): string {
  const keep = "select(1.0, 0.0, starts[params.starts_at + sequence * params.starts_stride + t] != 0)";
  return /* wgsl */ `
fn keep_of(sequence: u32, t: u32) -> f32 { return ${starts ? keep : "1.0"}; }`;
}

function storeGates(cell: CellName, text: (gate: number, component: string) => string): string {
  return ["x", "y", "z", "w"]
    .slice(0, GATES[cell])
    .map((component, gate) => text(gate, component))
    .join("\n  ");
}

function storeGradGates(cell: CellName, use: BufferUse): string {
  const [access, type] = use.split(" ");
  return /* wgsl */ `
  let gates_at = params.gradGates_at + row * params.gradGates_stride + unit;
  ${storeGates(cell, (gate, component) => {
    const place = `gradGates[gates_at + ${gate}u * params.dHidden]`;
    const value = `grad.own.${component}`;
    return `${place} = ${type}(${access === "add" ? `f32(${place}) + ` : ""}${value});`;
  })}`;
}
