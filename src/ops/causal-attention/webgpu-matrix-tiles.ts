// WGSL of attention by matrix units: what the forward pass and the gradients share.
//
// A subgroup of 32 threads has 32 rows of a tile of scores, in matrices of 16 x 16, and a thread one of these rows: matrices
// cannot be looked into, so scores go through workgroup memory, where a thread turns its row into weights, float16 in the
// same place, which are the left operand of the product that follows.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { hasMatrixUnits, MATRIX, SUBGROUP } from "../webgpu-matrix-ops.ts";
import type { MatrixOps } from "../webgpu-matrix-ops.ts";
import { each } from "./webgpu-tiles.ts";

/** Rows of a tile that a subgroup has: one a thread. */
export const PART_ROWS: number = SUBGROUP;
/** Columns of a tile: keys in a step of the forward pass. */
export const COLUMNS = 32;
/** Halves in 16 bytes, the unit of workgroup memory. */
export const UNIT = 8;
/** Units from one row of scores to the next: float32, and one against conflicts of banks. */
export const SCORE_STRIDE: number = COLUMNS / 4 + 1;

/** Shortest sequences that are worth a tile. */
const LEAST_LENGTH = 32;

/** Whether matrix units can take these heads: float16, in units of 16 bytes, and enough of them. */
export function suitsUnits(
  backend: WebGpuBackend,
  { length, headDim, most }: { length: number; headDim: number; most: number },
  ...tensors: readonly Tensor[]
): boolean {
  return (
    hasMatrixUnits(backend) &&
    length >= LEAST_LENGTH &&
    headDim % MATRIX === 0 &&
    headDim <= most &&
    tensors.every(({ dtype, offset, rowStride }) => dtype === "f16" && offset % UNIT === 0 && rowStride % UNIT === 0)
  );
}

/** Units from one row of a tile of heads to the next. */
export const headStride = (headDim: number): number => headDim / UNIT + 1;

/** WGSL: `read_NAME(base, row, end, unit)`: 8 channels of a head; beyond the last row, those of the last. */
export function unitReader(name: string): string {
  return /* wgsl */ `
fn read_${name}(base: u32, row: u32, end: u32, unit: u32) -> vec4u {
  return ${name}[(base + min(row, end - 1u) * params.${name}_stride) / ${UNIT}u + unit];
}`;
}

/** A tile of heads in workgroup memory, and where its rows come from. `at` is its first unit, the others are WGSL. */
export interface HeadTile {
  readonly name: string;
  readonly at: number;
  readonly rows: number;
  readonly base: string;
  readonly first: string;
  readonly end: string;
}

/** Sizes that the parts of a kernel have in common. */
export interface MatrixShape {
  readonly ops: MatrixOps;
  readonly headDim: number;
  readonly threads: number;
}

const unitsOf = ({ rows }: HeadTile, { headDim }: MatrixShape): number => (rows * headDim) / UNIT;
const fetchesOf = (tile: HeadTile, shape: MatrixShape): number => Math.ceil(unitsOf(tile, shape) / shape.threads);
const guarded = (tile: HeadTile, shape: MatrixShape, i: number, text: string): string =>
  (i + 1) * shape.threads <= unitsOf(tile, shape)
    ? text
    : `if (thread + ${i * shape.threads}u < ${unitsOf(tile, shape)}u) { ${text} }`;

/** WGSL: declares the registers by which a tile comes. */
export function declareFetch(tile: HeadTile, shape: MatrixShape): string {
  return each(fetchesOf(tile, shape), (i) => `  var ${tile.name}_${i} = vec4u();`);
}

/** WGSL: the thread's units of a tile begin to come. */
export function fetchTile(tile: HeadTile, shape: MatrixShape): string {
  const units = shape.headDim / UNIT;
  return each(fetchesOf(tile, shape), (i) => {
    const unit = `(thread + ${i * shape.threads}u)`;
    const read = `read_${tile.name}(${tile.base}, ${tile.first} + ${unit} / ${units}u, ${tile.end}, ${unit} % ${units}u)`;
    return guarded(tile, shape, i, `${tile.name}_${i} = ${read};`);
  });
}

/** WGSL: what came goes to workgroup memory. */
export function putTile(tile: HeadTile, shape: MatrixShape): string {
  const units = shape.headDim / UNIT;
  return each(fetchesOf(tile, shape), (i) => {
    const unit = `(thread + ${i * shape.threads}u)`;
    const place = `${tile.at}u + ${unit} / ${units}u * ${headStride(shape.headDim)}u + ${unit} % ${units}u`;
    return guarded(tile, shape, i, `tile[${place}] = ${tile.name}_${i};`);
  });
}

/** WGSL: a tile goes to workgroup memory at once. */
export const bringTile = (tile: HeadTile, shape: MatrixShape): string =>
  `  {\n${declareFetch(tile, shape)}\n${fetchTile(tile, shape)}\n${putTile(tile, shape)}\n  }`;

/** WGSL: the left matrix of rows `i` and channels `s`, both in matrices, of the subgroup's part of a tile of heads. */
export function leftOfHeads({ ops, headDim }: MatrixShape, at: number, i: number, s: number): string {
  const stride = headStride(headDim);
  const row = `(subgroup * ${PART_ROWS}u + ${i * MATRIX}u)`;
  return ops.load("left", `${at}u + ${row} * ${stride}u + ${(s * MATRIX) / UNIT}u`, stride, true);
}

/**
 * WGSL: products of the subgroup's rows of a left tile with all rows of a right one, along the channels, to the scores at
 * `to`. `left` gives the matrix of (rows, channels); without barriers.
 */
export function multiplyByRows(
  shape: MatrixShape,
  { name, left, right, to }: { name: string; left: (i: number, s: number) => string; right: HeadTile; to: number },
): string {
  const { ops, headDim } = shape;
  const stride = headStride(headDim);
  const [down, across, steps] = [PART_ROWS / MATRIX, COLUMNS / MATRIX, headDim / MATRIX];
  const sums = each(down, (i) => each(across, (j) => `      var ${name}_${i}_${j} = ${ops.sum}();`));
  const products = each(steps, (s) => {
    const lefts = each(down, (i) => `        let left_${i} = ${left(i, s)};`);
    const rights = each(across, (j) => {
      const at = `${right.at + j * MATRIX * stride + (s * MATRIX) / UNIT}u`;
      return `        let right_${j} = ${ops.load("right", at, stride, false)};
${each(down, (i) => `        ${ops.multiply(`${name}_${i}_${j}`, `left_${i}`, `right_${j}`)}`)}`;
    });
    return `      {\n${lefts}\n${rights}\n      }`;
  });
  const stores = each(down, (i) =>
    each(across, (j) => `      ${ops.store(`${name}_${i}_${j}`, scoresAt(to, i, (j * MATRIX) / 4), SCORE_STRIDE)}`),
  );
  return `    {\n${sums}\n${products}\n${stores}\n    }`;
}

/** WGSL: the unit of rows `i` (in matrices) of the subgroup's scores. */
function scoresAt(at: number, i: number, unit: number): string {
  return `${at}u + (subgroup * ${PART_ROWS}u + ${i * MATRIX}u) * ${SCORE_STRIDE}u + ${unit}u`;
}

/** WGSL: declares SUMS_i_j: the subgroup's rows times the channels of a head. */
export function declareHeadSums(sums: string, { ops, headDim }: MatrixShape): string {
  return each(PART_ROWS / MATRIX, (i) => each(headDim / MATRIX, (j) => `  var ${sums}_${i}_${j}: ${ops.sum};`));
}

/** WGSL: SUMS += weights, which lie at `from` in place of scores, times the rows of a tile. */
export function addByColumns(
  shape: MatrixShape,
  { sums, from, right }: { sums: string; from: number; right: HeadTile },
): string {
  const { ops, headDim } = shape;
  const stride = headStride(headDim);
  const down = PART_ROWS / MATRIX;
  return each(COLUMNS / MATRIX, (s) => {
    const lefts = each(
      down,
      (i) => `      let left_${i} = ${ops.load("left", scoresAt(from, i, (s * MATRIX) / UNIT), SCORE_STRIDE, true)};`,
    );
    const rights = each(headDim / MATRIX, (j) => {
      const at = `${right.at + s * MATRIX * stride + (j * MATRIX) / UNIT}u`;
      return `      let right_${j} = ${ops.load("right", at, stride, true)};
${each(down, (i) => `      ${ops.multiply(`${sums}_${i}_${j}`, `left_${i}`, `right_${j}`)}`)}`;
    });
    return `    {\n${lefts}\n${rights}\n    }`;
  });
}

/** Parts of a head's channels that fit in the place of scores. */
const piecesOf = (headDim: number): readonly (readonly number[])[] => {
  const all = Array.from({ length: headDim / MATRIX }, (_, j) => j);
  const size = COLUMNS / MATRIX;
  return Array.from({ length: Math.ceil(all.length / size) }, (_, p) => all.slice(p * size, (p + 1) * size));
};

/** WGSL: sums go to the place of scores at `at`, a piece of the channels at a time; `visit` tells what is done with them there. */
export function handOver(
  { ops, headDim }: MatrixShape,
  { sums, at, visit }: { sums: string; at: number; visit: (firstPart: number, parts: number, back: string) => string },
): string {
  return piecesOf(headDim)
    .map((piece) => {
      const move = (text: (i: number, j: number, place: string) => string): string =>
        each(PART_ROWS / MATRIX, (i) =>
          piece.map((j, n) => `    ${text(i, j, scoresAt(at, i, (n * MATRIX) / 4))}`).join("\n"),
        );
      const back = move((i, j, place) => `${sums}_${i}_${j} = ${ops.loadSum(place, SCORE_STRIDE)};`);
      return `${move((i, j, place) => ops.store(`${sums}_${i}_${j}`, place, SCORE_STRIDE))}
    workgroupBarrier();
${visit((piece[0] * MATRIX) / 4, (piece.length * MATRIX) / 4, back)}
    workgroupBarrier();`;
    })
    .join("\n");
}

/** WGSL: the first unit of the thread's row of the scores at `at`. */
export const rowOfScores = (at: number): string => `${at}u + thread * ${SCORE_STRIDE}u`;

/** WGSL: `VALUES_i`, vectors of four columns of a thread, go to their row at `at` as float16. */
export function putWeights(values: string, at: number): string {
  return each(
    COLUMNS / UNIT,
    (u) =>
      `    tile[${rowOfScores(at)} + ${u}u] = vec4u(bitcast<vec2u>(vec4h(${values}_${2 * u})), bitcast<vec2u>(vec4h(${values}_${2 * u + 1})));`,
  );
}

/** WGSL: the head of an entry point: `thread`, and `subgroup`, which the remainder keeps compilers from fearing for. */
export function matrixEntry({ ops, threads }: MatrixShape): string {
  return /* wgsl */ `
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
  ${ops.parameter}
) {
  let subgroup = ${ops.subgroup} % ${threads / SUBGROUP}u;`;
}
