// layerNorm on the WASM backend: binds kernels/assembly/layer-norm.ts.
import { floatBits } from "../../backends/wasm/index.ts";
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import { addColumnSums } from "../rms-norm/column-sums.ts";
import type { LayerNormInputs, LayerNormOptions, LayerNormOutputs } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 14;

export function forward(
  call: ForwardCall<LayerNormInputs, LayerNormOutputs, LayerNormOptions>,
  backend: WasmBackend,
): void {
  const { x, weight, bias } = call.inputs;
  const { y } = call.outputs;
  const { eps = 1e-5 } = call.options;
  const args = [pointer(x), x.rowStride, pointer(y), y.rowStride, pointer(weight), pointer(bias)];
  args.push(pointer(call.saved?.mean), pointer(call.saved?.inverse), x.rows, x.columns, floatBits(eps));
  backend.dispatch("layerNorm", args, x.size < SERIAL_ELEMENTS);
}

export function backward(
  { inputs, saved, gradOutputs, gradInputs }: BackwardCall<LayerNormInputs, LayerNormOutputs, LayerNormOptions>,
  backend: WasmBackend,
): void {
  const { x, weight } = inputs;
  const { x: gradX } = gradInputs;
  const { y: gradY } = gradOutputs;
  if (!gradY) return;
  const { rows, columns } = x;
  // The blocks of rows follow from the shape, so they are the same for both sums.
  addColumnSums(backend, { rows, columns, sum: gradInputs.weight }, (weightPartials) =>
    addColumnSums(backend, { rows, columns, sum: gradInputs.bias }, (biasPartials, rowsPerBlock) => {
      const args = [pointer(x), x.rowStride, pointer(gradY), gradY.rowStride, pointer(gradX), gradX?.rowStride ?? 0];
      args.push(pointer(weight), pointer(saved.mean), pointer(saved.inverse), weightPartials, biasPartials);
      backend.dispatch("layerNormBackward", [...args, rows, columns, rowsPerBlock], x.size < SERIAL_ELEMENTS);
    }),
  );
}
