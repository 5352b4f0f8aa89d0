// rotary on the WASM backend: binds kernels/assembly/rotary.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { RotaryInputs, RotaryOptions, RotaryOutputs } from "./index.ts";
import { turnsOf } from "./turns.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;

export function forward(
  { inputs, outputs, options }: ForwardCall<RotaryInputs, RotaryOutputs, RotaryOptions>,
  backend: WasmBackend,
): void {
  turn(backend, inputs.positions, options, { x: inputs.x, y: outputs.y, isBack: false });
}

export function backward(
  { inputs, options, gradOutputs, gradInputs }: BackwardCall<RotaryInputs, RotaryOutputs, RotaryOptions>,
  backend: WasmBackend,
): void {
  const { y: gradY } = gradOutputs;
  const { x: gradX } = gradInputs;
  if (gradX && gradY) turn(backend, inputs.positions, options, { x: gradY, y: gradX, isBack: true });
}

/** y = x turned; or y += x turned back. */
function turn(
  backend: WasmBackend,
  positions: Tensor | undefined,
  { headDim, rotaryDim = headDim, base = 10000 }: RotaryOptions,
  { x, y, isBack }: { x: Tensor; y: Tensor; isBack: boolean },
): void {
  // Low words first: together they are whole numbers of 64 bits.
  const words = Int32Array.from(turnsOf(rotaryDim, base).flatMap(([high, low]) => [low, high]));
  const turns = backend.allocate("i32", words.length);
  backend.write(turns, words);
  const args = [pointer(x), x.rowStride, pointer(y), y.rowStride, turns.pointer, pointer(positions)];
  args.push(x.rows, x.shape[1], x.columns, headDim, rotaryDim / 2, isBack ? 1 : 0);
  backend.dispatch("rotary", args, x.size < SERIAL_ELEMENTS);
  backend.release(turns);
}
