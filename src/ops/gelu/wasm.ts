// gelu on the WASM backend: binds kernels/assembly/gelu.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { GeluInputs, GeluOptions, GeluOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 12;

export function forward(
  { inputs: { x }, outputs: { y }, options }: ForwardCall<GeluInputs, GeluOutputs, GeluOptions>,
  backend: WasmBackend,
): void {
  const args = [pointer(x), x.rowStride, pointer(y), y.rowStride, y.rows, y.columns, isTanh(options)];
  backend.dispatch("gelu", args, y.size < SERIAL_ELEMENTS);
}

export function backward(
  { inputs: { x }, options, gradOutputs, gradInputs }: BackwardCall<GeluInputs, GeluOutputs, GeluOptions>,
  backend: WasmBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX } = gradInputs;
  if (!gradY || !gradX) return;
  const args = [pointer(x), x.rowStride, pointer(gradY), gradY.rowStride, pointer(gradX), gradX.rowStride];
  backend.dispatch("geluBackward", [...args, x.rows, x.columns, isTanh(options)], x.size < SERIAL_ELEMENTS);
}

function isTanh({ approximate = "none" }: GeluOptions): number {
  return Number(approximate === "tanh");
}
