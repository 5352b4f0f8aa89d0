// linear on the WASM backend: binds kernels/assembly/{gemm-f32,gemv-f32,gemm-i8,quantize,linear-bias}.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LinearInputs, LinearOptions, LinearOutputs } from "./index.ts";
import { checkHasGradient, packedPointers } from "./pack.ts";
import { paddedInputs } from "./quantize.ts";

/** Multiplications, and bytes of weights (one row of x), below which one thread is quicker alone: some 2 µs. */
const SERIAL_PRODUCTS = 1 << 16;
const SERIAL_BYTES = 1 << 16;
/** Elements below which one thread quantises, or sums columns, quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

/** Rows of a tile of quantised x. Mirrors TILE_TOKENS in kernels/assembly/quantize.ts. */
const TILE_ROWS = 5;

/** What the memory behind the second matrix of gemmF32 holds. Mirrors kernels/assembly/gemm-f32.ts. */
const B_PANELS = 0;
const B_ROW_PER_COLUMN = 1;
const B_ROW_PER_STEP = 2;

export function forward(call: ForwardCall<LinearInputs, LinearOutputs, LinearOptions>, backend: WasmBackend): void {
  const { x, weight, bias } = call.inputs;
  const { y } = call.outputs;
  if (y.size === 0) return;
  if (weight.format === "int8") return forwardInt8(backend, x, weight, bias, y);
  const { rows, columns } = y;
  const steps = x.columns;
  if (weight.format === "panels" && rows === 1) {
    const args = [pointer(x), pointer(weight), pointer(y), pointer(bias), columns, steps];
    return backend.dispatch("gemvF32", args, columns * steps * 4 < SERIAL_BYTES);
  }
  const b = [pointer(weight), weight.format === "panels" ? B_PANELS : B_ROW_PER_COLUMN, weight.rowStride];
  const sizes = [rows, columns, steps];
  dispatchGemm(backend, [pointer(x), x.rowStride, 1, ...b, pointer(y), y.rowStride, pointer(bias), 0], sizes);
}

function forwardInt8(backend: WasmBackend, x: Tensor, weight: Tensor, bias: Tensor | undefined, y: Tensor): void {
  const { panels, rowScales } = packedPointers(weight);
  const { rows, columns } = y;
  const steps = x.columns;
  if (rows === 1) {
    const args = [pointer(x), panels, rowScales, pointer(y), pointer(bias), columns, steps];
    return backend.dispatch("gemvI8", args, columns * steps < SERIAL_BYTES);
  }
  const quantized = backend.allocate("i8", quantizedBytes(rows, steps));
  backend.dispatch("quantizeRows", [pointer(x), x.rowStride, rows, steps, quantized.pointer], x.size < SERIAL_ELEMENTS);
  const args = [quantized.pointer, panels, rowScales, pointer(y), y.rowStride, pointer(bias), rows, columns, steps];
  backend.dispatch("gemmI8", args, rows * columns * steps < SERIAL_PRODUCTS);
  backend.release(quantized);
}

/** Bytes of x quantised: tiles of rows, each their int16 values and a scale a row. */
function quantizedBytes(rows: number, steps: number): number {
  return Math.ceil(rows / TILE_ROWS) * TILE_ROWS * (paddedInputs(steps) * 2 + 4);
}

/** grad.x += grad.y W; grad.weight += grad.yᵀ x; grad.bias += sum of grad.y over rows. */
export function backward(call: BackwardCall<LinearInputs, LinearOutputs, LinearOptions>, backend: WasmBackend): void {
  const { x, weight } = call.inputs;
  const gradY = call.gradOutputs.y;
  const { x: gradX, weight: gradWeight, bias: gradBias } = call.gradInputs;
  if (!gradY || gradY.size === 0) return;
  checkHasGradient(weight);
  const { rows, columns: outputs } = gradY;
  const inputs = x.columns;
  if (gradX) {
    const b = [pointer(weight), B_ROW_PER_STEP, weight.rowStride];
    const args = [pointer(gradY), gradY.rowStride, 1, ...b, pointer(gradX), gradX.rowStride, 0, 1];
    dispatchGemm(backend, args, [rows, inputs, outputs]);
  }
  if (gradWeight) {
    const b = [pointer(x), B_ROW_PER_STEP, x.rowStride];
    const args = [pointer(gradY), 1, gradY.rowStride, ...b, pointer(gradWeight), gradWeight.rowStride, 0, 1];
    dispatchGemm(backend, args, [outputs, inputs, rows]);
  }
  if (gradBias) {
    const args = [pointer(gradY), gradY.rowStride, rows, outputs, pointer(gradBias)];
    backend.dispatch("linearGradBias", args, gradY.size < SERIAL_ELEMENTS);
  }
}

/** sizes: rows, columns, steps. */
function dispatchGemm(backend: WasmBackend, args: readonly number[], sizes: readonly number[]): void {
  const products = sizes[0] * sizes[1] * sizes[2];
  backend.dispatch("gemmF32", [...args, ...sizes], products < SERIAL_PRODUCTS);
}
