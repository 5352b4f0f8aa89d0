// The operations on matrices of 16 x 16 that kernels of products and attention are written in: the GPU's matrix units, or
// ordinary arithmetic in their place, so that all the rest is tested where there are none.
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import type { KernelSource } from "../backends/webgpu/kernel.ts";

/** Rows, columns and steps of a matrix of the units. */
export const MATRIX = 16;
/** Threads of a subgroup. */
export const SUBGROUP = 32;

/** Whether the device multiplies float16 by float16 to float32 in matrices of 16 x 16. */
export function hasMatrixUnits(backend: WebGpuBackend): boolean {
  return backend.about.matrixShapes.some(
    ({ M, N, K, componentType, resultComponentType }) =>
      M === MATRIX && N === MATRIX && K === MATRIX && componentType === "f16" && resultComponentType === "f32",
  );
}

/**
 * The operations on matrices, of the units or emulated. `at` and `stride` count units of `tile`, an array of vec4<u32> in
 * workgroup memory. The emulated ones read `params.steps`, which must not be 0.
 */
export interface MatrixOps {
  /** Type of a matrix of each kind. */
  readonly sum: string;
  readonly left: string;
  load(side: "left" | "right", at: string, stride: number, isRowMajor: boolean): string;
  /** The float32 of a sum that was stored. */
  loadSum(at: string, stride: number): string;
  multiply(sum: string, a: string, b: string): string;
  store(sum: string, at: string, stride: number): string;
  readonly helpers: string;
  /** Parts of a kernel's source that the units need. */
  readonly extensions: Pick<KernelSource, "enables" | "directives">;
  /** The number of a thread's subgroup in its workgroup, where the entry point has `parameter`. */
  readonly subgroup: string;
  readonly parameter: string;
}

export const UNIT_OPS: MatrixOps = {
  sum: `subgroup_matrix_result<f32, ${MATRIX}, ${MATRIX}>`,
  left: `subgroup_matrix_left<f16, ${MATRIX}, ${MATRIX}>`,
  load: (side, at, stride, isRowMajor) =>
    `subgroupMatrixLoad<subgroup_matrix_${side}<f16, ${MATRIX}, ${MATRIX}>, ${isRowMajor ? "row" : "col"}_major>(&tile, ${at}, ${stride}u)`,
  loadSum: (at, stride) =>
    `subgroupMatrixLoad<subgroup_matrix_result<f32, ${MATRIX}, ${MATRIX}>, row_major>(&tile, ${at}, ${stride}u)`,
  multiply: (sum, a, b) => `${sum} = subgroupMatrixMultiplyAccumulate(${a}, ${b}, ${sum});`,
  store: (sum, at, stride) => `subgroupMatrixStore<row_major>(&tile, ${at}, ${sum}, ${stride}u);`,
  helpers: "",
  extensions: {
    enables: ["chromium_experimental_subgroup_matrix"],
    directives: "diagnostic(off, chromium.subgroup_matrix_uniformity);",
  },
  subgroup: "subgroup_id",
  parameter: "@builtin(subgroup_id) subgroup_id: u32,",
};

/** Each of 32 threads holds half a row of a sum. */
export const EMULATED_OPS: MatrixOps = {
  sum: "array<f32, 8>",
  left: "Emulated",
  load: (_side, at, stride, isRowMajor) => `Emulated(${at}, ${stride}u, ${isRowMajor})`,
  loadSum: (at, stride) => `sum_emulated(${at}, ${stride}u, thread % ${SUBGROUP}u)`,
  multiply: (sum, a, b) => `multiply_emulated(${a}, ${b}, &${sum}, thread % ${SUBGROUP}u);`,
  store: (sum, at, stride) => `store_emulated(&${sum}, ${at}, ${stride}u, thread % ${SUBGROUP}u);`,
  helpers: /* wgsl */ `
struct Emulated { at: u32, stride: u32, is_row_major: bool }

fn element_of(matrix: Emulated, row: u32, column: u32) -> f32 {
  let line = select(column, row, matrix.is_row_major);
  let place = select(row, column, matrix.is_row_major);
  let unit = tile[matrix.at + line * matrix.stride + place / 8u];
  return f32(bitcast<vec2h>(unit[place % 8u / 2u])[place % 2u]);
}

// The bound of k is unknown to compilers: unrolled, this takes software adapters ten seconds to compile.
fn multiply_emulated(a: Emulated, b: Emulated, sum: ptr<function, array<f32, 8>>, lane: u32) {
  let steps = select(${MATRIX}u, params.steps, params.steps == 0u);
  for (var i = 0u; i < steps / 2u; i++) {
    for (var k = 0u; k < steps; k++) {
      (*sum)[i] += element_of(a, lane / 2u, k) * element_of(b, k, lane % 2u * 8u + i);
    }
  }
}

fn store_emulated(sum: ptr<function, array<f32, 8>>, at: u32, stride: u32, lane: u32) {
  let to = at + (lane / 2u) * stride + (lane % 2u) * 2u;
  tile[to] = bitcast<vec4u>(vec4f((*sum)[0], (*sum)[1], (*sum)[2], (*sum)[3]));
  tile[to + 1u] = bitcast<vec4u>(vec4f((*sum)[4], (*sum)[5], (*sum)[6], (*sum)[7]));
}

fn sum_emulated(at: u32, stride: u32, lane: u32) -> array<f32, 8> {
  let first = at + (lane / 2u) * stride + (lane % 2u) * 2u;
  let low = bitcast<vec4f>(tile[first]);
  let high = bitcast<vec4f>(tile[first + 1u]);
  return array<f32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}`,
  extensions: {},
  subgroup: `(thread / ${SUBGROUP}u)`,
  parameter: "",
};
