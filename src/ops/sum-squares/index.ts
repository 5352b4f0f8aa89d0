// sumSquares: the sum of the squares of all elements of some tensors (the norm of a gradient).
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { BackendError } from "../../core/errors.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

/**
 * Σ x² over all elements of all tensors, 0 for none; the same bits however the device shares the work. In float64, where
 * no float32 overflows; on webgpu in float32, where a sum beyond 3.4e38 is Infinity. Has no gradient.
 * @throws BackendError when the tensors are on different devices
 */
export async function sumSquares(tensors: readonly Tensor[]): Promise<number> {
  const backend = commonBackend(tensors);
  if (backend?.name === "webgpu") return webgpu.sumSquares(tensors, backend as WebGpuBackend);
  return sumSquaresNow(tensors);
}

/** {@link sumSquares} at once, where the device's memory is the host's (reference, wasm). */
export function sumSquaresNow(tensors: readonly Tensor[]): number {
  const backend = commonBackend(tensors);
  if (!backend) return 0;
  if (backend.name === "wasm") return wasm.sumSquares(tensors, backend as WasmBackend);
  if (backend.name === "reference") return reference.sumSquares(tensors);
  throw new BackendError(`sumSquares: ${backend.name} does not give its sums at once. Await sumSquares instead.`);
}

function commonBackend(tensors: readonly Tensor[]): Tensor["backend"] | undefined {
  const backend = tensors[0]?.backend;
  if (tensors.some((tensor) => tensor.backend !== backend))
    throw new BackendError("sumSquares: all tensors must be on one device.");
  return backend;
}
