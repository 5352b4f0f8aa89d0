// Products of sorted rows with the weights of their experts, by the kernels of linear.
import type { Kernel, WebGpuBackend, WebGpuStorage } from "../../backends/webgpu/index.ts";
import { groupsFor } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { FLAT_TILE, MATRIX_TILES, PLAIN_TILES, suitsMatrices } from "../linear/webgpu-choice.ts";
import { DIRECT_TILE, multiplyDirect } from "../linear/webgpu-direct.ts";
import type { Entries } from "../linear/webgpu-entries.ts";
import type { EpilogueSpec } from "../linear/webgpu-epilogue.ts";
import { isEvenTile, matrixBytes, multiplyByMatrices } from "../linear/webgpu-matrix.ts";
import { halvesOf } from "../linear/webgpu-pack.ts";
import type { Along, Operand, Product } from "../linear/webgpu-product.ts";
import { isWide, operandIn, operandOf } from "../linear/webgpu-product.ts";
import { multiplyByTiles } from "../linear/webgpu-tiles.ts";
import type { Sorted } from "./webgpu-sort.ts";

/** Which kernels compute products. Tests name one; else the device decides. */
export type ProductKind = "matrices" | "emulated" | "tiles" | "direct";

/** A kind of kernels, and rows of a tile of sorted rows: 32 or 128. */
export interface TileChoice {
  readonly kind: ProductKind;
  readonly tileRows: number;
}

/** Rows of tiles: the first where each expert has enough rows to fill some, on average. */
const LARGE_TILE = 128;
const SMALL_TILE = 32;

/** Rows of a tile of sorted rows. Software adapters compute by small tiles only. */
export function tileRowsFor(backend: WebGpuBackend, pairs: number, experts: number): number {
  return !backend.about.isSoftware && pairs >= LARGE_TILE * experts ? LARGE_TILE : SMALL_TILE;
}

/** Computes products over sorted rows. */
export interface Products {
  readonly backend: WebGpuBackend;
  readonly sorted: Sorted;
  readonly tileRows: number;
  readonly kind?: ProductKind | undefined;
}

/** to = a Wᵀ, or with "outer" a W, for each row with the weight of its expert. @param weight `[experts, outputs, inputs]` */
export function multiplyRows(products: Products, a: Tensor, weight: Tensor, to: Tensor, along: Along): void {
  const product = { a: operandOf(a, "steps"), b: operandOf(weight, along), to: operandOf(to, "steps"), adds: false };
  const [, outputs, inputs] = weight.shape;
  const params = { rows: to.rows, columns: to.columns, steps: a.columns, entrySize: outputs * inputs };
  multiply(products, product, { ...params, entries: "rows", count: 1 });
}

/** grad_e (+)= aᵀ b, summed over the rows of expert e. @param grad `[experts, outputs, inputs]` */
export function addOuter(products: Products, a: Tensor, b: Tensor, grad: Tensor): void {
  const adds = products.backend.hasContent(grad);
  const product = { a: operandOf(a, "outer"), b: operandOf(b, "outer"), to: operandOf(grad, "steps"), adds };
  const [experts, outputs, inputs] = grad.shape;
  const params = { rows: outputs, columns: inputs, steps: a.rows, entrySize: 0 };
  multiply(products, product, { ...params, entries: "steps", count: experts });
}

/** Sizes of the product of one group.z, and how many of them there are. */
interface Sizes {
  readonly rows: number;
  readonly columns: number;
  readonly steps: number;
  readonly entrySize: number;
  readonly entries: Entries;
  readonly count: number;
}

function multiply(products: Products, product: Product, { entries, count, ...sizes }: Sizes): void {
  const { backend, sorted, tileRows } = products;
  const kind = products.kind ?? kindFor(products, product, entries);
  const usesHalves = kind === "matrices" || kind === "emulated";
  const b = usesHalves && entries === "rows" ? asHalves(backend, product.b) : product.b;
  const { kernel, tile } = kernelFor(kind, { ...product, b }, entries, tileRows);
  const [x, y = 1] = groupsFor(Math.ceil(sizes.rows / tile.tileRows) * Math.ceil(sizes.columns / tile.tileColumns), 1);
  const division = entries === "rows" ? sorted.tiles : sorted.starts;
  const params = { ...sizes, span: 0, entryRows: tileRows };
  backend.dispatch(kernel, { a: product.a, b, y: product.to, division }, params, [x, y, count]);
}

function kindFor({ backend, tileRows }: Products, product: Product, entries: Entries): ProductKind {
  if (backend.about.isSoftware) return "direct";
  const tile = matrixTile(entries, tileRows);
  const { a, b } = product;
  const isFitting =
    isEvenTile(tile, a.along, b.along) &&
    matrixBytes(tile, a.along, b.along) <= backend.device.limits.maxComputeWorkgroupStorageSize;
  return suitsMatrices(backend, product) && isFitting ? "matrices" : "tiles";
}

/** Steps of a tile divide the rows of a tile of sorted rows, which are the steps of gradients of weights. */
function matrixTile(entries: Entries, tileRows: number) {
  return entries === "rows" && tileRows === SMALL_TILE ? FLAT_TILE : MATRIX_TILES[0];
}

function plainTile(entries: Entries, tileRows: number) {
  return PLAIN_TILES.find((tile) => tile.tileRows === (entries === "rows" ? tileRows : 64))!;
}

/** A weight in float32 as float16: see asHalves in linear. */
function asHalves(backend: WebGpuBackend, b: Operand): Operand {
  return b.type === "f32" ? operandIn(halvesOf(backend, b.storage as WebGpuStorage), b) : b;
}

function kernelFor(
  kind: ProductKind,
  { a, b, to, adds }: Product,
  entries: Entries,
  tileRows: number,
): { kernel: Kernel; tile: { tileRows: number; tileColumns: number } } {
  const width = kind === "matrices" || kind === "emulated" ? 8 : 4;
  const operands = {
    a: a.type as "f32" | "f16",
    aAlong: a.along,
    aWide: isWide(a, width),
    b: b.type,
    bAlong: b.along,
    bWide: isWide(b, width),
  };
  const end: EpilogueSpec = {
    y: to.type === "f16" ? "f16" : "f32",
    yWide: isWide(to, 4),
    adds,
    residual: false,
    bias: false,
    scales: false,
  };
  if (kind === "direct") return { kernel: multiplyDirect({ ...end, ...operands, entries }), tile: DIRECT_TILE };
  if (kind === "tiles") {
    const tile = plainTile(entries, tileRows);
    return { kernel: multiplyByTiles({ ...tile, ...end, ...operands, entries }), tile };
  }
  const tile = matrixTile(entries, tileRows);
  const emulated = kind === "emulated";
  return { kernel: multiplyByMatrices({ ...tile, ...end, ...operands, emulated, entries }), tile };
}
