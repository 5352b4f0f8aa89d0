// Which kernel a product gets, and with which sizes. The numbers come from `npm run bench:gpu` (linear-variants); see README.md.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { MatrixTile } from "./webgpu-matrix.ts";
import { isEvenTile, matrixBytes, matrixThreads } from "./webgpu-matrix.ts";
import { hasMatrixUnits, MATRIX } from "../webgpu-matrix-ops.ts";
import type { Product, Sizes } from "./webgpu-product.ts";
import { sizesOf } from "./webgpu-product.ts";
import type { PlainTile } from "./webgpu-tiles.ts";

/** Rows of x up to which weights are read row by row instead of by tiles. */
export const MOST_VECTOR_ROWS = 8;

/** Sums of as many steps are split, where there are few workgroups, into parts of `LEAST_SPAN` steps or more. */
const LONG = 2048;
const LEAST_SPAN = 1024;
const FEW_GROUPS = 256;
const SPLIT_GROUPS = 1024;
/** Workgroups without which a tile is too large. */
const ENOUGH_GROUPS = 96;

/** A tile, and into how many parts the steps are split. */
export interface Choice<Tile> {
  readonly tile: Tile;
  readonly splits: number;
}

/** Elements computed beyond the edges, as a share of the fewest that any tile takes: more than that, and a tile is left out. */
const MOST_WASTE = 1.1;

/** From large to small. Steps of a small tile take as long as their loads: there they are long, and two on their way. */
export const MATRIX_TILES: readonly MatrixTile[] = [
  { tileRows: 128, tileColumns: 128, tileSteps: 32, partRows: 64, partColumns: 64, slices: 1, ahead: 1 },
  { tileRows: 64, tileColumns: 64, tileSteps: 128, partRows: 32, partColumns: 32, slices: 2, ahead: 2 },
];

/** For few rows and many columns. */
export const FLAT_TILE: MatrixTile = {
  tileRows: 32,
  tileColumns: 128,
  tileSteps: 64,
  partRows: 32,
  partColumns: 32,
  slices: 1,
  ahead: 1,
};

/** For so few elements that no tile of the others gives enough workgroups. */
const SMALL_TILES: readonly MatrixTile[] = [
  { tileRows: 32, tileColumns: 32, tileSteps: 256, partRows: 32, partColumns: 32, slices: 8, ahead: 2 },
  { tileRows: 16, tileColumns: 16, tileSteps: 512, partRows: 16, partColumns: 16, slices: 8, ahead: 2 },
];

export const PLAIN_TILES: readonly PlainTile[] = [
  { tileRows: 128, tileColumns: 128, tileSteps: 16, threadRows: 8, threadColumns: 8 },
  { tileRows: 64, tileColumns: 64, tileSteps: 16, threadRows: 4, threadColumns: 4 },
  { tileRows: 32, tileColumns: 32, tileSteps: 16, threadRows: 4, threadColumns: 4 },
];
/** Whether matrix units can take a product: both operands float16 in effect, and enough of it. */
export function suitsMatrices(backend: WebGpuBackend, product: Product): boolean {
  const { rows, columns, steps } = sizesOf(product);
  return (
    hasMatrixUnits(backend) &&
    (product.a.type === "f16" || product.b.type === "f16") &&
    Math.min(rows, columns, steps) >= MATRIX &&
    rows * columns * steps >= 1 << 18
  );
}

export function chooseMatrixTile(backend: WebGpuBackend, product: Product): Choice<MatrixTile> {
  const { a, b } = product;
  const most = backend.device.limits.maxComputeWorkgroupStorageSize;
  const threads = backend.device.limits.maxComputeInvocationsPerWorkgroup;
  const fitting = (tiles: readonly MatrixTile[]): MatrixTile[] =>
    tiles.filter(
      (tile) =>
        isEvenTile(tile, a.along, b.along) &&
        matrixBytes(tile, a.along, b.along) <= most &&
        matrixThreads(tile) <= threads,
    );
  const sizes = sizesOf(product);
  const isFlat = sizes.rows <= FLAT_TILE.tileRows && groupsOf(FLAT_TILE, sizes) >= ENOUGH_GROUPS;
  const [flat] = isFlat ? fitting([FLAT_TILE]) : [];
  return flat ? { tile: flat, splits: 1 } : chooseTile(fitting(MATRIX_TILES), sizes, fitting(SMALL_TILES));
}

export function choosePlainTile(product: Product): Choice<PlainTile> {
  return chooseTile(PLAIN_TILES, sizesOf(product));
}

type TileSize = Pick<MatrixTile, "tileRows" | "tileColumns">;

function groupsOf({ tileRows, tileColumns }: TileSize, { rows, columns }: Sizes): number {
  return Math.ceil(rows / tileRows) * Math.ceil(columns / tileColumns);
}

function splitsOf(tile: TileSize, sizes: Sizes): number {
  const groups = groupsOf(tile, sizes);
  if (sizes.steps < LONG || groups >= FEW_GROUPS) return 1;
  return Math.max(1, Math.min(Math.floor(sizes.steps / LEAST_SPAN), Math.round(SPLIT_GROUPS / groups)));
}

/** The largest tile that wastes little and gives enough workgroups, or else such a tile of `others`, or the smallest. */
function chooseTile<Tile extends TileSize>(
  tiles: readonly Tile[],
  sizes: Sizes,
  others: readonly Tile[] = [],
): Choice<Tile> {
  const areaOf = (tile: Tile): number => groupsOf(tile, sizes) * tile.tileRows * tile.tileColumns;
  const leastArea = Math.min(...tiles.map(areaOf));
  const tight = [...tiles.filter((each) => areaOf(each) <= MOST_WASTE * leastArea), ...others];
  const isEnough = (tile: Tile): boolean => groupsOf(tile, sizes) * splitsOf(tile, sizes) >= ENOUGH_GROUPS;
  const tile = tight.find(isEnough) ?? tight.at(-1)!;
  return { tile, splits: splitsOf(tile, sizes) };
}
