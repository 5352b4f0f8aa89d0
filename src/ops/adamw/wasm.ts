// adamwStep and scaleInPlace on the WASM backend: binds kernels/assembly/adamw.ts.
import { floatBits } from "../../backends/wasm/index.ts";
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { AdamWOptions, AdamWTensors } from "./index.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;
/** Elements that one item scales, of a tensor whose rows are closed up. */
const BLOCK = 1 << 13;

export function adamwStep(
  { parameter, grad, m, v }: AdamWTensors,
  { learningRate, step, beta1, beta2, eps, weightDecay, gradScale }: Required<AdamWOptions>,
  backend: WasmBackend,
): void {
  const { size } = parameter;
  const stepSize = learningRate / (1 - beta1 ** step);
  const inverseRoot = 1 / Math.sqrt(1 - beta2 ** step);
  const numbers = [
    gradScale,
    beta1,
    1 - beta1,
    beta2,
    1 - beta2,
    stepSize,
    inverseRoot,
    eps,
    learningRate * weightDecay,
  ];
  const args = [pointer(parameter), pointer(grad), pointer(m), pointer(v), size, ...numbers.map(floatBits)];
  backend.dispatch("adamw", args, size < SERIAL_ELEMENTS);
}

export function scaleInPlace(x: Tensor, factor: number, backend: WasmBackend): void {
  const width = x.isContiguous ? BLOCK : x.columns;
  const stride = x.isContiguous ? BLOCK : x.rowStride;
  backend.dispatch("scaleInPlace", [pointer(x), stride, width, x.size, floatBits(factor)], x.size < SERIAL_ELEMENTS);
}
