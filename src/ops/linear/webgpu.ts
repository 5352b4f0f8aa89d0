// linear on the WebGPU backend: products cut to what a binding holds, and each given to a family of kernels.
import type { Place, WebGpuBackend, WebGpuStorage } from "../../backends/webgpu/index.ts";
import { groupsFor } from "../../backends/webgpu/index.ts";
import type { Kernel } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { addColumnSums } from "../webgpu-column-sums.ts";
import { WORKGROUP } from "../webgpu-elements.ts";
import type { LinearInputs, LinearOptions, LinearOutputs } from "./index.ts";
import { checkHasGradient } from "./pack.ts";
import { MOST_VECTOR_ROWS, chooseMatrixTile, choosePlainTile, suitsMatrices } from "./webgpu-choice.ts";
import { DIRECT_TILE, multiplyDirect } from "./webgpu-direct.ts";
import type { EpilogueSpec } from "./webgpu-epilogue.ts";
import type { MatrixTile } from "./webgpu-matrix.ts";
import { multiplyByMatrices } from "./webgpu-matrix.ts";
import { halvesOf } from "./webgpu-pack.ts";
import type { Operand, Product } from "./webgpu-product.ts";
import {
  boundBytes,
  columnsOf,
  isWide,
  operandIn,
  operandOf,
  outerOf,
  rowsOf,
  sizesOf,
  stepsOf,
} from "./webgpu-product.ts";
import { addParts } from "./webgpu-sums.ts";
import type { PlainTile } from "./webgpu-tiles.ts";
import { multiplyByTiles } from "./webgpu-tiles.ts";
import type { VectorSpec } from "./webgpu-vector.ts";
import { WEIGHTS_A_LOAD, multiplyVectors } from "./webgpu-vector.ts";

export function forward(
  { inputs: { x, weight, bias }, outputs: { y } }: ForwardCall<LinearInputs, LinearOutputs, LinearOptions>,
  backend: WebGpuBackend,
): void {
  if (y.size === 0) return;
  multiply(backend, {
    a: operandOf(x, "steps"),
    b: operandOf(weight, "steps"),
    to: operandOf(y, "steps"),
    adds: false,
    bias: bias && operandOf(bias, "steps"),
  });
}

/** grad.x += grad.y W; grad.weight += grad.yᵀ x; grad.bias += sum of grad.y over rows. */
export function backward(
  { inputs: { x, weight }, gradOutputs, gradInputs }: BackwardCall<LinearInputs, LinearOutputs, LinearOptions>,
  backend: WebGpuBackend,
): void {
  const gradY = gradOutputs.y;
  if (!gradY || gradY.size === 0) return;
  checkHasGradient(weight);
  const product = (a: Operand, b: Operand, to: Tensor): Product => ({
    a,
    b,
    to: operandOf(to, "steps"),
    adds: backend.hasContent(to),
  });
  if (gradInputs.x) multiply(backend, product(operandOf(gradY, "steps"), operandOf(weight, "outer"), gradInputs.x));
  if (gradInputs.weight)
    multiply(backend, product(operandOf(gradY, "outer"), operandOf(x, "outer"), gradInputs.weight));
  if (gradInputs.bias) addColumnSums(backend, gradY, gradInputs.bias);
}

/** Computes a product, in pieces where a matrix is larger than a binding. */
export function multiply(backend: WebGpuBackend, product: Product): void {
  const { a, b, to, bias, residual } = product;
  const tooLarge = (place: Operand): boolean => boundBytes(place) > backend.maxBindingBytes;
  const { rows, columns, steps } = sizesOf(product);
  if (rows > 1 && (tooLarge(to) || (tooLarge(a) && a.along === "steps"))) {
    halve(rows, (start, count) =>
      multiply(backend, {
        ...product,
        a: outerOf(a, start, count),
        to: rowsOf(to, start, count),
        residual: residual && rowsOf(residual, start, count),
      }),
    );
  } else if (columns > 1 && (tooLarge(to) || (tooLarge(b) && b.along === "steps"))) {
    halve(columns, (start, count) =>
      multiply(backend, {
        ...product,
        b: outerOf(b, start, count),
        to: columnsOf(to, start, count),
        bias: bias && columnsOf(bias, start, count),
        residual: residual && columnsOf(residual, start, count),
      }),
    );
  } else if (steps > 1 && (tooLarge(a) || tooLarge(b))) {
    halve(steps, (start, count) =>
      multiply(backend, {
        ...product,
        a: stepsOf(a, start, count),
        b: stepsOf(b, start, count),
        adds: product.adds || start > 0,
        bias: start > 0 ? undefined : bias,
        residual: start > 0 ? undefined : residual,
      }),
    );
  } else multiplyBound(backend, product);
}

/** Two halves of a count, the first a multiple of 64 where that is possible. */
function halve(count: number, body: (start: number, count: number) => void): void {
  const half = Math.ceil(count / 2);
  const first = count > 64 ? Math.ceil(half / 64) * 64 : half;
  body(0, first);
  if (count > first) body(first, count - first);
}

function multiplyBound(backend: WebGpuBackend, product: Product): void {
  const { a, b } = product;
  if (a.rows <= MOST_VECTOR_ROWS && a.along === "steps" && b.along === "steps")
    return multiplyAsVectors(backend, product);
  if (suitsMatrices(backend, product)) {
    const { tile, splits } = chooseMatrixTile(backend, product);
    return multiplyAsMatrices(backend, { ...product, b: asHalves(backend, b) }, tile, splits);
  }
  if (backend.about.isSoftware) return multiplyDirectly(backend, product, 1);
  const { tile, splits } = choosePlainTile(product);
  multiplyAsTiles(backend, product, tile, splits);
}

/** A weight in float32 as float16. Activations are converted on their way: they are read once or twice only. */
function asHalves(backend: WebGpuBackend, b: Operand): Operand {
  return b.type === "f32" ? operandIn(halvesOf(backend, b.storage as WebGpuStorage), b) : b;
}

/** By subgroup matrices. */
export function multiplyAsMatrices(
  backend: WebGpuBackend,
  product: Product,
  tile: MatrixTile,
  splits: number,
  emulated = false,
): void {
  const { a, b } = product;
  splitSteps(backend, product, tile, splits, (end) =>
    multiplyByMatrices({
      ...pick(tile, ["tileRows", "tileColumns", "tileSteps", "partRows", "partColumns", "slices", "ahead"]),
      ...end,
      a: a.type as "f32" | "f16",
      aAlong: a.along,
      aWide: isWide(a, 8),
      b: b.type,
      bAlong: b.along,
      bWide: isWide(b, 8),
      emulated,
    }),
  );
}

/** By ordinary arithmetic. */
export function multiplyAsTiles(backend: WebGpuBackend, product: Product, tile: PlainTile, splits: number): void {
  const { a, b } = product;
  splitSteps(backend, product, tile, splits, (end) =>
    multiplyByTiles({
      ...pick(tile, ["tileRows", "tileColumns", "tileSteps", "threadRows", "threadColumns"]),
      ...end,
      a: a.type as "f32" | "f16",
      aAlong: a.along,
      aWide: isWide(a, 4),
      b: b.type,
      bAlong: b.along,
      bWide: isWide(b, 4),
    }),
  );
}

/** Without workgroup memory: what software adapters compile and run best. */
export function multiplyDirectly(backend: WebGpuBackend, product: Product, splits: number): void {
  const { a, b } = product;
  splitSteps(backend, product, DIRECT_TILE, splits, (end) =>
    multiplyDirect({
      ...end,
      a: a.type as "f32" | "f16",
      aAlong: a.along,
      aWide: isWide(a, 4),
      b: b.type,
      bAlong: b.along,
      bWide: isWide(b, 4),
    }),
  );
}

/** These fields, in this order: the same specification must always read the same. */
function pick<T, K extends keyof T>(from: T, names: readonly K[]): Pick<T, K> {
  return Object.fromEntries(names.map((name) => [name, from[name]])) as Pick<T, K>;
}

/** Dispatches the kernel that `kernelFor` gives; with several splits into memory of their own, which is then added up. */
function splitSteps(
  backend: WebGpuBackend,
  product: Product,
  { tileRows, tileColumns, tileSteps }: { tileRows: number; tileColumns: number; tileSteps: number },
  splitsWanted: number,
  kernelFor: (end: EpilogueSpec) => Kernel,
): void {
  const { rows, columns, steps } = sizesOf(product);
  const span = Math.ceil(steps / splitsWanted / tileSteps) * tileSteps;
  const splits = Math.ceil(steps / span);
  const [x, y = 1] = groupsFor(Math.ceil(rows / tileRows) * Math.ceil(columns / tileColumns), 1);
  const params = { rows, columns, steps, span };
  const { a, b } = product;
  const end = endOf(product);
  if (splits === 1) {
    backend.dispatch(kernelFor(end), { a, b, ...endBuffers(product) }, params, [x, y]);
    return;
  }
  const parts = backend.allocate("f32", splits * rows * columns);
  const place = { storage: parts, offset: 0, rowStride: columns, rows: splits * rows, columns };
  const plain = {
    y: "f32",
    yWide: isWide(place, 4),
    adds: false,
    residual: false,
    bias: false,
    scales: false,
  } as const;
  backend.dispatch(kernelFor(plain), { a, b, y: place }, params, [x, y, splits]);
  const groups = groupsFor(rows * Math.ceil(columns / 4), WORKGROUP);
  backend.dispatch(addParts({ ...end }), { parts, ...endBuffers(product) }, { rows, columns, count: splits }, groups);
  backend.release(parts);
}

function endOf({ to, adds, residual, bias, b }: Product): EpilogueSpec {
  return {
    y: to.type === "f16" ? "f16" : "f32",
    yWide: isWide(to, 4) && (!residual || isWide(residual, 4)),
    adds,
    residual: residual !== undefined,
    bias: bias !== undefined,
    scales: b.scales !== undefined,
  };
}

function endBuffers({ to, residual, bias, b: { scales } }: Product): Record<string, Place> {
  return { y: to, ...(residual ? { residual } : {}), ...(bias ? { bias } : {}), ...(scales ? { scales } : {}) };
}

/** Sizes of the kernels for a few rows. */
export type VectorTile = Pick<VectorSpec, "lanes" | "threads" | "outputs" | "subgroups">;

function multiplyAsVectors(backend: WebGpuBackend, product: Product): void {
  const [least, most] = backend.about.subgroupSize;
  const subgroups = backend.has("subgroups") && least === most && most >= 4;
  const outputs = product.to.columns >= 1024 ? 2 : 1;
  vectors(backend, product, { lanes: subgroups ? most : 32, threads: 128, outputs, subgroups });
}

/** A few rows times a weight. */
export function vectors(backend: WebGpuBackend, product: Product, tile: VectorTile): void {
  const { a, b } = product;
  const { rows, columns, steps } = sizesOf(product);
  const kernel = multiplyVectors({
    ...pick(tile, ["lanes", "threads", "outputs", "subgroups"]),
    ...endOf(product),
    yWide: false,
    rows,
    a: a.type as "f32" | "f16",
    aWide: isWide(a, 4),
    b: b.type,
    bWide: isWide(b, WEIGHTS_A_LOAD[b.type]),
  });
  const groups = groupsFor(columns, (tile.threads / tile.lanes) * tile.outputs);
  backend.dispatch(kernel, { a, b, ...endBuffers(product) }, { columns, steps }, groups);
}
