// routeExperts on the WASM backend: binds kernels/assembly/route-experts.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { RouteExpertsInputs, RouteExpertsOptions, RouteExpertsOutputs } from "./index.ts";

/** Logits below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 12;
/** Rows of an item. Mirrors kernels/assembly/route-experts.ts. */
const ITEM_ROWS = 64;

type Forward = ForwardCall<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions>;
type Backward = BackwardCall<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions>;

export function forward(
  { inputs: { logits }, outputs, saved, options: { topK } }: Forward,
  backend: WasmBackend,
): void {
  const { gates, choices, balance } = outputs;
  const { rows, columns: experts } = logits;
  const partials = backend.allocate("f32", Math.ceil(rows / ITEM_ROWS) * 2 * experts);
  const p = saved ? undefined : backend.allocate("f32", rows * experts);
  const places = [pointer(gates), pointer(choices), p ? p.pointer : pointer(saved!.probabilities), partials.pointer];
  const args = [pointer(logits), logits.rowStride, ...places, rows, experts, topK];
  backend.dispatch("routeExperts", args, logits.size < SERIAL_ELEMENTS);
  const ends = [pointer(saved?.shares), pointer(balance)];
  backend.dispatch("routeBalance", [partials.pointer, rows, experts, topK, ...ends], true);
  backend.release(partials);
  if (p) backend.release(p);
}

export function backward(call: Backward, backend: WasmBackend): void {
  const { outputs, saved, options, gradOutputs, gradInputs } = call;
  const { logits: grad } = gradInputs;
  if (!grad) return;
  const { gates, balance } = gradOutputs;
  const args = [pointer(saved.probabilities), pointer(saved.shares), pointer(outputs.gates), pointer(outputs.choices)];
  args.push(pointer(gates), gates?.rowStride ?? 0, pointer(grad), grad.rowStride, pointer(balance));
  args.push(grad.rows, grad.columns, options.topK);
  backend.dispatch("routeExpertsBackward", args, grad.size < SERIAL_ELEMENTS);
}
