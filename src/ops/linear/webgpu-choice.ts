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

/** Workgroups with which a tile is large enough: then the largest such tile is taken. */
const ENOUGH_GROUPS = 96;
/** Steps are split until there are so many workgroups, while each has so many steps left: fewer the longer the sums. */
const SPLITS = [
  { groups: 256, span: 512 },
  { groups: 1024, span: 2048 },
] as const;

/** A tile, and into how many parts the steps are split. */
export interface Choice<Tile> {
  readonly tile: Tile;
  readonly splits: number;
}

/** Elements computed beyond the edges, as a share of the fewest that any tile takes: more than that, and a tile is left out. */
const MOST_WASTE = 1.1;

/** From large to small. One stage: two were slower in every size (README.md). */
const MATRIX_TILES: readonly MatrixTile[] = [
  { tileRows: 128, tileColumns: 128, tileSteps: 32, partRows: 64, partColumns: 64, stages: 1 },
  { tileRows: 64, tileColumns: 64, tileSteps: 64, partRows: 32, partColumns: 32, stages: 1 },
  { tileRows: 32, tileColumns: 128, tileSteps: 64, partRows: 32, partColumns: 32, stages: 1 },
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
  const areaOf = (tile: Tile): number => groupsOf(tile) * tile.tileRows * tile.tileColumns;
  const leastArea = Math.min(...tiles.map(areaOf));
  const tight = tiles.filter((each) => areaOf(each) <= MOST_WASTE * leastArea);
  const tile = tight.find((each) => groupsOf(each) >= ENOUGH_GROUPS) ?? tight.at(-1)!;
  const splits = SPLITS.map(({ groups, span }) =>
    Math.min(Math.floor(steps / span), Math.round(groups / groupsOf(tile))),
  );
  return { tile, splits: Math.max(1, ...splits) };
}
