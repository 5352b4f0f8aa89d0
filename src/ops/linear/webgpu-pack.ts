// Weights on the WebGPU backend: how int8 lies there, packing on the host, rows by id, and copies in float16.
//
// int8: rows of bytes, each padded with zeros to a multiple of 16, so that a load of 16 bytes stays within a row; behind
// them one float32 scale a row.
import type { KernelFamily, Place, WebGpuBackend, WebGpuStorage } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import { BYTES_PER_ELEMENT } from "../../core/dtype.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { WORKGROUP, elementsHeader, rowsPerBinding } from "../webgpu-elements.ts";
import { quantizeWeightRow } from "./quantize.ts";

/** Bytes to which rows are padded. */
const ROW_UNIT = 16;

export interface GpuInt8Layout {
  /** Bytes from one row to the next. */
  readonly rowStride: number;
  readonly scalesAt: number;
  readonly bytes: number;
}

export function gpuInt8Layout(rows: number, columns: number): GpuInt8Layout {
  const rowStride = Math.ceil(columns / ROW_UNIT) * ROW_UNIT;
  return { rowStride, scalesAt: rows * rowStride, bytes: rows * (rowStride + 4) };
}

/** The bytes of an int8 weight; their padding counts as columns. */
export function int8Place({ storage, rows, columns }: Tensor): Place {
  const { rowStride } = gpuInt8Layout(rows, columns);
  return { storage, offset: 0, rowStride, rows, columns: rowStride };
}

/** The scales of an int8 weight, in bytes, as all of its storage is. */
export function int8Scales({ storage, rows, columns }: Tensor): Place {
  const { scalesAt } = gpuInt8Layout(rows, columns);
  return { storage, offset: scalesAt, rowStride: 4 * rows, rows: 1, columns: 4 * rows };
}

/** Quantises rows from `firstRow` on as quantize.ts does, and sends them to the device. */
export function packInt8Rows(weight: Tensor, firstRow: number, values: Float32Array): void {
  const { columns } = weight;
  const { rowStride, scalesAt } = gpuInt8Layout(weight.rows, columns);
  const count = values.length / columns;
  const bytes = new Int8Array(count * rowStride);
  const scales = new Float32Array(count);
  for (let row = 0; row < count; row++) {
    const quantized = quantizeWeightRow(values.subarray(row * columns, (row + 1) * columns));
    bytes.set(quantized.values.subarray(0, columns), row * rowStride);
    scales[row] = quantized.scale;
  }
  weight.backend.write(weight.storage, bytes, firstRow * rowStride);
  weight.backend.write(weight.storage, new Int8Array(scales.buffer), scalesAt + firstRow * 4);
}

/** y[i] = row ids[i] of an int8 weight as numbers; NaN for an id out of range. Without ids: row i. */
export function gatherInt8Rows(ids: Tensor | undefined, weight: Tensor, y: Tensor): void {
  const backend = weight.backend as WebGpuBackend;
  const kernel = gatherInt8({ y: y.dtype, ids: ids !== undefined });
  eachRowBlock(backend, y, (part, first) => {
    const rows = ids ? { ids } : {};
    const buffers = { ...rows, weight: int8Place(weight), scales: int8Scales(weight), y: part };
    const params = {
      rows: part.rows,
      columns: y.columns,
      first,
      weight_rows: weight.rows,
      ids_columns: ids?.columns ?? 1,
    };
    backend.dispatch(kernel, buffers, params, groupsFor(part.rows * y.columns, WORKGROUP));
  });
}

/** y = x in another element type. */
export function castRows(x: Tensor, y: Tensor): void {
  const backend = x.backend as WebGpuBackend;
  eachRowBlock(backend, y, (part, first) => {
    const params = { rows: part.rows, columns: y.columns };
    const buffers = { x: x.rowsOf(first, part.rows), y: part };
    backend.dispatch(cast({ x: x.dtype, y: y.dtype }), buffers, params, groupsFor(part.rows * y.columns, WORKGROUP));
  });
}

/** Calls `body` with blocks of rows of y that a binding holds. */
function eachRowBlock(backend: WebGpuBackend, y: Tensor, body: (part: Tensor, first: number) => void): void {
  const most = rowsPerBinding(backend, [y]);
  for (let first = 0; first < y.rows; first += most) body(y.rowsOf(first, Math.min(most, y.rows - first)), first);
}

const NAN = "bitcast<f32>(0x7fc00000u + 0u * params.rows)";

const gatherInt8: KernelFamily<{ y: string; ids: boolean }> = defineKernel(
  "gatherInt8",
  [
    { y: "f32", ids: true },
    { y: "f16", ids: false },
  ],
  ({ y, ids }) => ({
    buffers: { ...(ids ? { ids: "read i32" as const } : {}), weight: "read u32", scales: "read u32", y: `write ${y}` },
    params: ["rows", "columns", "first", "weight_rows", "ids_columns"],
    body: elementsHeader(
      1,
      /* wgsl */ `
  let place = params.first + row;
  let id = ${ids ? "u32(ids[params.ids_at + place / params.ids_columns * params.ids_stride + place % params.ids_columns])" : "place"};
  let at = params.y_at + row * params.y_stride + column;
  if (id >= params.weight_rows) {
    y[at] = ${y}(${NAN});
    return;
  }
  let word = weight[(params.weight_at + id * params.weight_stride + column) / 4u];
  let value = f32(unpack4xI8(word)[column % 4u]);
  y[at] = ${y}(value * bitcast<f32>(scales[params.scales_at / 4u + id]));`,
    ),
  }),
);

/** A float32 weight as float16, in the same places of another storage: made once, and again when the weight changes. */
export function halvesOf(backend: WebGpuBackend, weight: WebGpuStorage): WebGpuStorage {
  const { count } = weight;
  return backend.derived(weight, "f16", { dtype: "f16", count }, (to) => {
    const most = Math.floor((backend.maxBindingBytes - 512) / BYTES_PER_ELEMENT.f32);
    for (let offset = 0; offset < count; offset += most) {
      const columns = Math.min(most, count - offset);
      const place = (storage: WebGpuStorage): Place => ({ storage, offset, rowStride: columns, rows: 1, columns });
      const params = { rows: 1, columns };
      const buffers = { x: place(weight), y: place(to) };
      backend.dispatch(cast({ x: "f32", y: "f16" }), buffers, params, groupsFor(columns, WORKGROUP));
    }
  });
}

const cast: KernelFamily<{ x: string; y: string }> = defineKernel(
  "cast",
  [
    { x: "f32", y: "f16" },
    { x: "f16", y: "f32" },
  ],
  ({ x, y }) => ({
    buffers: { x: `read ${x}`, y: `write ${y}` },
    params: ["rows", "columns"],
    body: elementsHeader(
      1,
      /* wgsl */ `
  y[params.y_at + row * params.y_stride + column] = ${y}(x[params.x_at + row * params.x_stride + column]);`,
    ),
  }),
);
