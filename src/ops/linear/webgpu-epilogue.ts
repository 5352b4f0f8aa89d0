// How kernels of products end: scales, bias, what is there already, conversion, and stores within the result.
import type { BufferUse } from "../../backends/webgpu/kernel.ts";

/** What is done with the sums of a product. */
export interface EpilogueSpec {
  /** Element type of y. */
  readonly y: "f32" | "f16";
  /** Whether y is stored by vectors of 4. */
  readonly yWide: boolean;
  readonly adds: boolean;
  /** Whether a float32 matrix of the size of y is added. */
  readonly residual: boolean;
  readonly bias: boolean;
  /** Whether each column has a scale (int8 weights). */
  readonly scales: boolean;
}

export function epilogueBuffers({ y, yWide, adds, residual, bias, scales }: EpilogueSpec): Record<string, BufferUse> {
  return {
    ...(scales ? { scales: "read u32" } : {}),
    ...(bias ? { bias: "read f32" } : {}),
    ...(residual ? { residual: yWide ? "read vec4<f32>" : "read f32" } : {}),
    y: `${adds ? "add" : "write"} ${yWide ? `vec4<${y}>` : y}`,
  };
}

/**
 * WGSL: `finish(sum, column)` applies scale and bias; `store(row, column, sums)` writes four columns of a row, those that
 * lie within `params.columns`.
 */
export function epilogue(spec: EpilogueSpec): string {
  return `${finish(spec)}\n${spec.yWide ? storeWide(spec) : storeNarrow(spec)}`;
}

function finish({ scales, bias }: EpilogueSpec): string {
  const steps = [
    // Scales lie in an int8 tensor, whose elements are bytes.
    scales ? "  result *= bitcast<f32>(scales[params.scales_at / 4u + column]);" : "",
    bias ? "  result += bias[params.bias_at + column];" : "",
  ];
  return /* wgsl */ `
fn finish(sum: f32, column: u32) -> f32 {
  var result = sum;
${steps.filter(Boolean).join("\n")}
  return result;
}`;
}

/** WGSL of where four columns, or one, of the residual lie. */
const RESIDUAL_AT = "(params.residual_at + row * params.residual_stride + column)";

function storeWide({ y, adds, residual }: EpilogueSpec): string {
  const before = `${adds ? " + vec4f(y[at])" : ""}${residual ? ` + residual[${RESIDUAL_AT} / 4u]` : ""}`;
  return /* wgsl */ `
fn store(row: u32, column: u32, sums: vec4f) {
  if (column >= params.columns) { return; }
  let at = (params.y_at + row * params.y_stride + column) / 4u;
  let result = vec4f(finish(sums.x, column), finish(sums.y, column + 1u), finish(sums.z, column + 2u), finish(sums.w, column + 3u));
  y[at] = vec4<${y}>(result${before});
}`;
}

function storeNarrow({ y, adds, residual }: EpilogueSpec): string {
  const before = `${adds ? " + f32(y[at])" : ""}${residual ? ` + residual[${RESIDUAL_AT}]` : ""}`;
  return /* wgsl */ `
fn store_one(row: u32, column: u32, sum: f32) {
  if (column >= params.columns) { return; }
  let at = params.y_at + row * params.y_stride + column;
  y[at] = ${y}(finish(sum, column)${before});
}

fn store(row: u32, column: u32, sums: vec4f) {
  store_one(row, column, sums.x);
  store_one(row, column + 1u, sums.y);
  store_one(row, column + 2u, sums.z);
  store_one(row, column + 3u, sums.w);
}`;
}

/** WGSL: which tile of the result a workgroup computes. Bands of rows of tiles, so that tiles at work share their operands in cache. */
export const TILE_OF_GROUP = /* wgsl */ `
const BAND = 8u;

struct Origin { row: u32, column: u32, is_inside: bool }

fn origin_of(group: vec3u, groups: vec3u) -> Origin {
  let tiles_down = (params.rows + TILE_ROWS - 1u) / TILE_ROWS;
  let tiles_across = (params.columns + TILE_COLUMNS - 1u) / TILE_COLUMNS;
  let tile = group.x + group.y * groups.x;
  let band = tile / (BAND * tiles_across);
  let within = tile % (BAND * tiles_across);
  let height = min(BAND, max(tiles_down, band * BAND) - band * BAND);
  if (height == 0u) { return Origin(0u, 0u, false); }
  return Origin((band * BAND + within % height) * TILE_ROWS, (within / height) * TILE_COLUMNS, true);
}`;
