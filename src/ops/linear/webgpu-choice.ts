// Which kernel a product gets, and with which sizes. The numbers come from `npm run bench:gpu` (linear-variants); see README.md.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { MatrixTile } from "./webgpu-matrix.ts";
import { isEvenTile, matrixBytes } from "./webgpu-matrix.ts";
import { MATRIX } from "./webgpu-matrix-ops.ts";
import type { Product, Sizes } from "./webgpu-product.ts";
import { sizesOf } from "./webgpu-product.ts";
import type { PlainTile } from "./webgpu-tiles.ts";

/** Rows of x up to which weights are read row by row instead of by tiles. */
export const MOST_VECTOR_ROWS = 8;

/** Workgroups that keep a large GPU busy. */
const ENOUGH_GROUPS = 128;
/** Terms of a sum below which it is not split. */
const LEAST_SPAN = 256;
const MOST_SPLITS = 64;

/** A tile, and into how many parts the steps are split. */
export interface Choice<Tile> {
  readonly tile: Tile;
  readonly splits: number;
}

/** From large to small: the first of which there are enough is taken. */
const MATRIX_TILES: readonly MatrixTile[] = [
  { tileRows: 128, tileColumns: 128, tileSteps: 32, partRows: 64, partColumns: 64, stages: 1 },
  { tileRows: 64, tileColumns: 64, tileSteps: 64, partRows: 32, partColumns: 32, stages: 1 },
  { tileRows: 32, tileColumns: 64, tileSteps: 64, partRows: 16, partColumns: 32, stages: 1 },
];

const PLAIN_TILES: readonly PlainTile[] = [
  { tileRows: 128, tileColumns: 128, tileSteps: 16, threadRows: 8, threadColumns: 8 },
  { tileRows: 64, tileColumns: 64, tileSteps: 16, threadRows: 4, threadColumns: 4 },
  { tileRows: 32, tileColumns: 32, tileSteps: 16, threadRows: 4, threadColumns: 4 },
];
/** Whether matrix units can take a product: both operands float16 in effect, and enough of it. */
export function suitsMatrices(backend: WebGpuBackend, product: Product): boolean {
  const { rows, columns, steps } = sizesOf(product);
  return (
    backend.about.matrixShapes.some(
      ({ M, N, K, componentType, resultComponentType }) =>
        M === MATRIX && N === MATRIX && K === MATRIX && componentType === "f16" && resultComponentType === "f32",
    ) &&
    (product.a.type === "f16" || product.b.type === "f16") &&
    Math.min(rows, columns, steps) >= MATRIX &&
    rows * columns * steps >= 1 << 18
  );
}

export function chooseMatrixTile(backend: WebGpuBackend, product: Product): Choice<MatrixTile> {
  const { a, b } = product;
  const most = backend.device.limits.maxComputeWorkgroupStorageSize;
  const fitting = MATRIX_TILES.filter(
    (tile) => isEvenTile(tile, a.along, b.along) && matrixBytes(tile, a.along, b.along) <= most,
  );
  return chooseTile(fitting, sizesOf(product));
}

export function choosePlainTile(product: Product): Choice<PlainTile> {
  return chooseTile(PLAIN_TILES, sizesOf(product));
}

function chooseTile<Tile extends { tileRows: number; tileColumns: number }>(
  tiles: readonly Tile[],
  { rows, columns, steps }: Sizes,
): Choice<Tile> {
  const groupsOf = ({ tileRows, tileColumns }: Tile): number =>
    Math.ceil(rows / tileRows) * Math.ceil(columns / tileColumns);
  const splitsOf = (tile: Tile): number =>
    Math.max(1, Math.min(MOST_SPLITS, Math.floor(steps / LEAST_SPAN), Math.floor(ENOUGH_GROUPS / groupsOf(tile))));
  const tile = tiles.find((each) => groupsOf(each) * splitsOf(each) >= ENOUGH_GROUPS) ?? tiles.at(-1)!;
  return { tile, splits: splitsOf(tile) };
}
