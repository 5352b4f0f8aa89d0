// Weights packed for products: float32 in panels, or int8. Packs piece by piece, so that a load never holds them twice.
//
// panels: [ceil(rows / 8)][columns][8] float32. int8: [ceil(rows / 8)][columns / 2][8 rows][2] bytes, the columns padded
// with a zero to an even number, and behind all panels one float32 scale a row. kernels/assembly/{gemm-f32,gemm-i8}.ts
// read them. On a GPU panels are plain rows, and int8 is laid out as webgpu-pack.ts says.
import type { ReferenceStorage } from "../../backends/reference/index.ts";
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { Backend } from "../../backends/backend.ts";
import { DTypeError, ShapeError } from "../../core/errors.ts";
import type { Shape } from "../../core/shape.ts";
import { formatShape } from "../../core/shape.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Format } from "../../tensor/tensor.ts";
import { Tensor, emptyTensor } from "../../tensor/tensor.ts";
import type { Quantized } from "./quantize.ts";
import { QUANT_UNIT, paddedInputs, quantizeWeightRow } from "./quantize.ts";
import { castRows, gatherInt8Rows, gpuInt8Layout, packInt8Rows } from "./webgpu-pack.ts";

/** Rows of a panel. Mirrors kernels/assembly/gemm-f32.ts and gemm-i8.ts. */
const PANEL = 8;
/** Columns of x that the working memory of a thread can hold quantised. */
const MOST_COLUMNS = 1 << 18;
/** Elements below which one thread packs or gathers quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

/** A weight that is being packed. */
export interface PackedWeight {
  readonly tensor: Tensor;
  /** Packs the rows from `row` on, row-major, as many as there are values for. Every row once, pieces in any order. */
  writeRows(row: number, values: Float32Array): void;
}

/** Where the parts of an int8 weight lie, in bytes. */
export interface Int8Layout {
  readonly panelBytes: number;
  readonly scalesAt: number;
  readonly bytes: number;
}

export function int8Layout(rows: number, columns: number): Int8Layout {
  const panelBytes = paddedInputs(columns) * PANEL;
  const panels = Math.ceil(rows / PANEL);
  return { panelBytes, scalesAt: panels * panelBytes, bytes: panels * (panelBytes + 4 * PANEL) };
}

/**
 * Memory for a weight `[rows, columns]` in the given format, to be filled by {@link PackedWeight.writeRows}. Only the wasm
 * backend has `panels`: elsewhere plain rows serve as well. `rows` gives plain rows everywhere.
 * @param dtype of plain rows
 * @throws ShapeError when it is no matrix, or wider than 262144 columns
 */
export function createPackedWeight(
  backend: Backend,
  shape: Shape,
  format: Format,
  dtype: "f32" | "f16" = "f32",
): PackedWeight {
  const [rows, columns] = shape;
  if (shape.length !== 2 || !rows || !columns || columns > MOST_COLUMNS)
    throw new ShapeError(
      `A packed weight must be [rows, columns], at most ${MOST_COLUMNS} columns, got ${formatShape(shape)}.`,
    );
  if (format === "rows" || (format === "panels" && backend.name !== "wasm")) {
    const tensor = emptyTensor(backend, shape, dtype);
    return { tensor, writeRows: (row, values) => backend.write(tensor.storage, values, row * columns) };
  }
  const type = format === "int8" ? "i8" : "f32";
  const storage = backend.allocate(type, packedElements(backend, rows, columns, format));
  const tensor = new Tensor({ backend, shape, dtype: type, format, storage });
  const pack = { reference: packRowsOnHost, wasm: packRowsInWasm, webgpu: packInt8Rows }[backend.name];
  return { tensor, writeRows: (row, values) => pack(tensor, row, values) };
}

function packedElements(backend: Backend, rows: number, columns: number, format: Format): number {
  if (format === "panels") return Math.ceil(rows / PANEL) * PANEL * columns;
  return backend.name === "webgpu" ? gpuInt8Layout(rows, columns).bytes : int8Layout(rows, columns).bytes;
}

/** A plain weight in another format, on a backend whose memory the host reads; the plain one stays as it is. */
export function packWeight(weight: Tensor, format: Format): Tensor {
  const packed = createPackedWeight(weight.backend, weight.shape, format);
  packed.writeRows(0, Float32Array.from(weight.readNow()));
  return packed.tensor;
}

/**
 * A packed weight as plain float32 rows in a new tensor of its device: the same numbers from rows and panels, what is
 * left of them from int8.
 */
export function unpackWeight(weight: Tensor): Tensor {
  const plain = emptyTensor(weight.backend, weight.shape);
  if (weight.backend.name === "webgpu") unpackOnGpu(weight, plain);
  else if (weight.format === "rows") plain.write(weight.readNow());
  else if (weight.backend.name === "wasm") gatherRows(undefined, weight, plain);
  else
    for (let row = 0; row < weight.rows; row++)
      weight.backend.write(plain.storage, unpackRow(weight, row), row * weight.columns);
  return plain;
}

/**
 * y[i] = row ids[i] of a packed weight on the WASM backend, or of an int8 weight on the WebGPU backend; NaN for an id out
 * of range (check before).
 * @param ids i32 `[...]`  @param weight `[rows, columns]`, panels or int8  @param y `[..., columns]`
 */
export function gatherPackedRows(ids: Tensor, weight: Tensor, y: Tensor): void {
  if (weight.backend.name === "webgpu") gatherInt8Rows(ids, weight, y);
  else gatherRows(ids, weight, y);
}

function unpackOnGpu(weight: Tensor, plain: Tensor): void {
  if (weight.format === "int8") gatherInt8Rows(undefined, weight, plain);
  else castRows(weight, plain);
}

/** One row of an int8 weight on the reference backend, as numbers. */
export function unpackRow(weight: Tensor, row: number): Float32Array {
  const { values, scale } = readInt8Row(weight, row);
  return Float32Array.from({ length: weight.columns }, (_, k) => values[k] * scale);
}

/** Addresses of the parts of a packed weight in the WASM memory; no row scales: panels of float32. */
export function packedPointers(weight: Tensor): { panels: number; rowScales: number } {
  const panels = pointer(weight);
  return {
    panels,
    rowScales: weight.format === "int8" ? panels + int8Layout(weight.rows, weight.columns).scalesAt : 0,
  };
}

/** Throws unless gradients can flow through this weight. */
export function checkHasGradient(weight: Tensor): void {
  if (weight.format !== "rows")
    throw new DTypeError(
      `linear: a weight packed as ${weight.format} is for inference and passes no gradients. Load the model as trainable.`,
    );
}

function gatherRows(ids: Tensor | undefined, weight: Tensor, y: Tensor): void {
  if (weight.format === "rows") throw new DTypeError("gatherPackedRows: the weight is not packed.");
  const { panels, rowScales } = packedPointers(weight);
  const { rows, columns } = weight;
  const args = [
    pointer(ids),
    ids?.rowStride ?? 0,
    ids?.columns ?? 1,
    panels,
    rowScales,
    rows,
    columns,
    pointer(y),
    y.rowStride,
    y.rows,
  ];
  (weight.backend as WasmBackend).dispatch("gatherPackedRows", args, y.size < SERIAL_ELEMENTS);
}

function packRowsInWasm(weight: Tensor, row: number, values: Float32Array): void {
  const backend = weight.backend as WasmBackend;
  const count = values.length / weight.columns;
  const piece = backend.allocate("f32", values.length);
  backend.write(piece, values);
  const { panels, rowScales } = packedPointers(weight);
  const place = rowScales ? [panels, rowScales] : [panels];
  const args = [piece.pointer, count, weight.columns, ...place, row, weight.rows];
  backend.dispatch(rowScales ? "packI8" : "packF32", args, values.length < SERIAL_ELEMENTS);
  backend.release(piece);
}

function packRowsOnHost(weight: Tensor, firstRow: number, values: Float32Array): void {
  const { columns } = weight;
  const { bytes, scales } = int8Parts(weight);
  for (let row = firstRow; row < firstRow + values.length / columns; row++) {
    const quantized = quantizeWeightRow(values.subarray((row - firstRow) * columns, (row - firstRow + 1) * columns));
    quantized.values.forEach((value, column) => (bytes[int8ByteAt(columns, row, column)] = value));
    scales[row] = quantized.scale;
  }
}

/** A row of an int8 weight on the reference backend: its whole numbers (padded) and its scale. */
export function readInt8Row(weight: Tensor, row: number): Quantized {
  const { columns } = weight;
  const { bytes, scales } = int8Parts(weight);
  const values = Int8Array.from({ length: paddedInputs(columns) }, (_, k) => bytes[int8ByteAt(columns, row, k)]);
  return { values, scale: scales[row] };
}

function int8ByteAt(columns: number, row: number, column: number): number {
  const panel = Math.floor(row / PANEL) * paddedInputs(columns) * PANEL;
  const pair = Math.floor(column / QUANT_UNIT) * QUANT_UNIT * PANEL;
  return panel + pair + (row % PANEL) * QUANT_UNIT + (column % QUANT_UNIT);
}

function int8Parts(weight: Tensor): { bytes: Int8Array; scales: Float32Array } {
  const bytes = (weight.storage as ReferenceStorage).data as Int8Array<ArrayBuffer>;
  return { bytes, scales: new Float32Array(bytes.buffer, int8Layout(weight.rows, weight.columns).scalesAt) };
}
