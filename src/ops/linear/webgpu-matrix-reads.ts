// How operands of webgpu-matrix.ts are read: 8 halves at a time, whatever type they have in memory.
import type { Along, OperandType } from "./webgpu-product.ts";

/** Halves in 16 bytes, the unit of workgroup memory. */
export const UNIT = 8;

/** WGSL: 8 halves as 16 bytes. */
export const PACK_HALVES = /* wgsl */ `
fn pack_halves(low: vec4h, high: vec4h) -> vec4u {
  return vec4u(bitcast<vec2u>(low), bitcast<vec2u>(high));
}`;

/** Element type of the buffer of an operand. */
export function bufferType(type: OperandType, wide: boolean): string {
  if (type === "int8") return "vec2<u32>";
  if (!wide) return type;
  return type === "f16" ? "vec4<u32>" : "vec4<f32>";
}

/**
 * WGSL: `read_a(outer, step)`: 8 halves of operand a, from (outer, step) on along its contiguous axis. Beyond the end of
 * the outer axis it gives anything finite that is there; beyond that of the steps, zeros where `guarded`. `begin` says where the operand begins.
 */
export function reader(
  name: "a" | "b",
  type: OperandType,
  along: Along,
  wide: boolean,
  begin = `params.${name}_at`,
): string {
  const outerCount = name === "a" ? "params.rows" : "params.columns";
  const place = along === "steps" ? `outer * params.${name}_stride + step` : `step * params.${name}_stride + outer`;
  if (wide) {
    const last = along === "steps" ? `${outerCount} - 1u` : `${outerCount} - ${UNIT}u`;
    return /* wgsl */ `
fn read_${name}(outer_wanted: u32, step: u32) -> vec4u {
  let outer = min(outer_wanted, ${last});
  let at = (${begin} + ${place}) / ${UNIT}u;
${READ_UNIT[type](name)}
}`;
  }
  const [stepOf, outerOf] = along === "steps" ? ["step + i", "outer"] : ["step", "outer + i"];
  return /* wgsl */ `
fn ${name}_element(outer: u32, step: u32) -> f16 {
  if (outer >= ${outerCount} || step >= params.steps) { return f16(0); }
  return f16(${name}[${begin} + ${place}]);
}

fn read_${name}(outer: u32, step: u32) -> vec4u {
  var halves: array<f16, 8>;
  // A bound that compilers do not know: unrolled, this takes software adapters long to compile.
  for (var i = 0u; i < select(8u, params.steps, params.steps == 0u); i++) { halves[i] = ${name}_element(${outerOf}, ${stepOf}); }
  return pack_halves(vec4h(halves[0], halves[1], halves[2], halves[3]), vec4h(halves[4], halves[5], halves[6], halves[7]));
}`;
}

const READ_UNIT: Record<OperandType, (name: string) => string> = {
  f16: (name) => `  return ${name}[at];`,
  f32: (name) => `  return pack_halves(vec4h(${name}[2u * at]), vec4h(${name}[2u * at + 1u]));`,
  int8: (name) => `  let bytes = ${name}[at];
  return pack_halves(vec4h(unpack4xI8(bytes.x)), vec4h(unpack4xI8(bytes.y)));`,
};
