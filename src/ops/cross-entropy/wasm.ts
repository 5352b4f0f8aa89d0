// crossEntropy on the WASM backend: binds kernels/assembly/cross-entropy.ts.
import type { WasmBackend } from "../../backends/wasm/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { pointer } from "../../tensor/define-op.ts";
import type { CrossEntropyInputs, CrossEntropyOutputs } from "./index.ts";
import { IGNORE_INDEX } from "./options.ts";
import type { CrossEntropyOptions } from "./options.ts";

/** Elements below which one thread is quicker alone. */
const SERIAL_ELEMENTS = 1 << 13;

export function forward(
  { inputs, outputs, saved, options }: ForwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>,
  backend: WasmBackend,
): void {
  const { logits, targets } = inputs;
  const { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns } = options;
  const { rows } = logits;
  const target = [pointer(targets), targets.rowStride, targets.columns];
  const losses = pointer(outputs.losses);
  const args = [pointer(logits), logits.rowStride, ...target, losses, pointer(saved?.logSumExp)];
  backend.dispatch("crossEntropy", [...args, rows, vocabSize, ignoreIndex], logits.size < SERIAL_ELEMENTS);
  const mean = [losses, rows, ...target, pointer(outputs.loss), pointer(saved?.inverseCount), ignoreIndex];
  backend.dispatch("meanLoss", mean, true);
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
  const args = [pointer(logits), logits.rowStride, pointer(targets), targets.rowStride, targets.columns];
  args.push(pointer(grad), grad.rowStride, pointer(logSumExp), pointer(inverseCount), pointer(loss), pointer(losses));
  args.push(logits.rows, vocabSize, ignoreIndex);
  backend.dispatch("crossEntropyBackward", args, logits.size < SERIAL_ELEMENTS);
}
