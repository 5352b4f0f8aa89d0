// crossEntropy on the WASM backend: binds kernels/assembly/cross-entropy.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { CrossEntropyInputs, CrossEntropyOutputs } from "./index.ts";
import { IGNORE_INDEX } from "./options.ts";
import type { CrossEntropyOptions } from "./options.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;

export function forward(
  { inputs, outputs, saved, options }: ForwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>,
  backend: WasmBackend,
): void {
  storeLosses(inputs, { losses: outputs.losses, logSumExp: saved?.logSumExp }, options, backend);
  storeMean(inputs.targets, { ...outputs, inverseCount: saved?.inverseCount }, options, backend);
}

/** The losses of all rows, and their log-sum-exp where that is wanted. */
export function storeLosses(
  { logits, targets }: CrossEntropyInputs,
  { losses, logSumExp }: { losses: Tensor; logSumExp: Tensor | undefined },
  { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns }: CrossEntropyOptions,
  backend: WasmBackend,
): void {
  const args = [pointer(logits), logits.rowStride, ...argsOf(targets), pointer(losses), pointer(logSumExp)];
  backend.dispatch("crossEntropy", [...args, logits.rows, vocabSize, ignoreIndex], logits.size < SERIAL_ELEMENTS);
}

/** loss = the mean of the losses that are not ignored; inverseCount = 1 / their number, where that is wanted. */
export function storeMean(
  targets: Tensor,
  { losses, loss, inverseCount }: { losses: Tensor; loss: Tensor; inverseCount: Tensor | undefined },
  { ignoreIndex = IGNORE_INDEX }: CrossEntropyOptions,
  backend: WasmBackend,
): void {
  const args = [pointer(losses), losses.size, ...argsOf(targets), pointer(loss), pointer(inverseCount), ignoreIndex];
  backend.dispatch("meanLoss", args, true);
}

function argsOf(targets: Tensor): number[] {
  return [pointer(targets), targets.rowStride, targets.columns];
}

export function backward(
  call: BackwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>,
  backend: WasmBackend,
): void {
  const { logits, targets } = call.inputs;
  const { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns } = call.options;
  const { logSumExp, inverseCount } = call.saved;
  const { loss, losses } = call.gradOutputs;
  const { logits: grad } = call.gradInputs;
  if (!grad) return;
  const args = [pointer(logits), logits.rowStride, ...argsOf(targets)];
  args.push(pointer(grad), grad.rowStride, pointer(logSumExp), pointer(inverseCount), pointer(loss), pointer(losses));
  args.push(logits.rows, vocabSize, ignoreIndex);
  backend.dispatch("crossEntropyBackward", args, logits.size < SERIAL_ELEMENTS);
}
