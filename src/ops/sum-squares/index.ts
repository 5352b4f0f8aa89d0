// sumSquares: the sum of the squares of all elements of some tensors, on the host at once (the norm of a gradient).
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { BackendError } from "../../core/errors.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";

/**
 * Σ x² over all elements of all tensors, in float64: no overflow, and the same bits for any number of threads. 0 for
 * none. Waits for the result, so it cannot be part of a plan (WasmBackend.capture). Has no gradient.
 * @throws BackendError when the tensors are on different devices
 */
export function sumSquares(tensors: readonly Tensor[]): number {
  const backend = tensors[0]?.backend;
  if (!backend) return 0;
  if (tensors.some((tensor) => tensor.backend !== backend))
    throw new BackendError("sumSquares: all tensors must be on one device.");
  return backend.name === "wasm" ? wasm.sumSquares(tensors, backend as WasmBackend) : reference.sumSquares(tensors);
}
