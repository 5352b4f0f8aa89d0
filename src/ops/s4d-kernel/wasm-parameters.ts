// S4D's parameters on the WASM backend: their zero-order hold before a kernel, and its chain rule behind one.
// Binds kernels/assembly/s4d-discrete.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { S4dGradients, S4dParameters } from "./parameters.ts";

/** Planes of discrete parameters and of sums. Mirror PLANES and SUM_PLANES in kernels/assembly/s4d-discrete.ts. */
const DISCRETE_PLANES = 9;
const SUM_PLANES = 6;
/** Pairs below which one thread is quicker alone. */
const SERIAL_PAIRS = 1 << 7;

/** Calls `body` with the arguments with which all kernels of S4D begin; the discrete parameters live as long. */
export function withDiscrete(
  backend: WasmBackend,
  parameters: S4dParameters,
  body: (args: readonly number[]) => void,
): void {
  const { logDt, A_log_real, A_imag, C } = parameters;
  const { channels, padded, pairs, paddedPairs } = sizesOf(parameters);
  const discrete = backend.allocate("f32", DISCRETE_PLANES * paddedPairs * padded);
  const args = [pointer(logDt), ...[A_log_real, A_imag, C].flatMap(place), channels, pairs, discrete.pointer];
  backend.dispatch("s4dDiscretize", args, channels * pairs < SERIAL_PAIRS);
  body(args);
  backend.release(discrete);
}

/**
 * Calls `body` with the arguments of {@link withDiscrete} and what gradients need: room for `parts` parts of sums, which
 * `body` fills. They are added up in their order and taken through the zero-order hold.
 */
export function withSums(
  backend: WasmBackend,
  parameters: S4dParameters,
  { parts, grads }: { parts: number; grads: S4dGradients & { readonly D?: Tensor | undefined } },
  body: (args: readonly number[]) => void,
): void {
  const { channels, padded, pairs, paddedPairs } = sizesOf(parameters);
  withDiscrete(backend, parameters, (discrete) => {
    const sums = backend.allocate("f32", parts * (SUM_PLANES * paddedPairs + 1) * padded);
    const { logDt, A_log_real, A_imag, C, D } = grads;
    const ofGrads = [pointer(logDt), ...[A_log_real, A_imag, C].flatMap(place), pointer(D)];
    const args = [...discrete, sums.pointer, parts, ...ofGrads];
    body(args);
    backend.dispatch("s4dGradients", args, channels * pairs < SERIAL_PAIRS);
    backend.release(sums);
  });
}

/** Channels and pairs, and both as kernels round them up: to whole vectors, and to an even number. */
export function sizesOf({ A_imag }: S4dParameters): {
  channels: number;
  padded: number;
  pairs: number;
  paddedPairs: number;
} {
  const [channels, pairs] = A_imag.shape;
  return { channels, padded: Math.ceil(channels / 4) * 4, pairs, paddedPairs: Math.ceil(pairs / 2) * 2 };
}

/** Address and row stride; 0, 0 for none. */
export function place(tensor: Tensor | undefined): [number, number] {
  return [pointer(tensor), tensor?.rowStride ?? 0];
}
