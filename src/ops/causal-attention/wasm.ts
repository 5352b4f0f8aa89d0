// causalAttention on the WASM backend: binds kernels/assembly/attention.ts and attention-backward.ts.
import { floatBits } from "../../backends/wasm/index.ts";
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { headsOf } from "./heads.ts";
import type { AttentionInputs, AttentionOptions, AttentionOutputs } from "./index.ts";

/** Products of numbers below which one thread is quicker alone. */
const SERIAL_PRODUCTS = 1 << 14;

export function forward(
  { inputs, outputs: { y }, saved, options }: ForwardCall<AttentionInputs, AttentionOutputs, AttentionOptions>,
  backend: WasmBackend,
): void {
  const { q, k, v, firstVisible } = inputs;
  const { headDim, scale = headDim ** -0.5 } = options;
  const { batch, length, nHeads, group } = headsOf("causalAttention", inputs, headDim);
  const args = [...placesOf(q, k, v, y), pointer(saved?.logSum), pointer(firstVisible), 0];
  args.push(batch, length, nHeads, group, headDim, length, floatBits(scale));
  backend.dispatch("attention", args, q.size * length < SERIAL_PRODUCTS);
}

export function backward(
  call: BackwardCall<AttentionInputs, AttentionOutputs, AttentionOptions>,
  backend: WasmBackend,
): void {
  const { q, k, v, firstVisible } = call.inputs;
  const { q: gradQ, k: gradK, v: gradV } = call.gradInputs;
  const { y: gradY } = call.gradOutputs;
  const { headDim, scale = headDim ** -0.5 } = call.options;
  if (!gradY) return;
  const { batch, length, nHeads, group } = headsOf("causalAttention", call.inputs, headDim);
  const read = placesOf(q, k, v, call.outputs.y, gradY);
  const rest = [pointer(call.saved.logSum), pointer(firstVisible), batch, length, nHeads, group, headDim];
  rest.push(floatBits(scale));
  const isSerial = q.size * length < SERIAL_PRODUCTS;
  if (gradQ) backend.dispatch("attentionGradQ", [...read, ...placesOf(gradQ, undefined), ...rest], isSerial);
  if (gradK || gradV) backend.dispatch("attentionGradKv", [...read, ...placesOf(gradK, gradV), ...rest], isSerial);
}

/** Address and row stride of each tensor; zeros for none. */
export function placesOf(...tensors: readonly (Tensor | undefined)[]): number[] {
  return tensors.flatMap((tensor) => [pointer(tensor), tensor?.rowStride ?? 0]);
}
