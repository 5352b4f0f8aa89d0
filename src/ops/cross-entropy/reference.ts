// crossEntropy on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { CrossEntropyInputs, CrossEntropyOutputs } from "./index.ts";
import { IGNORE_INDEX } from "./options.ts";
import type { CrossEntropyOptions } from "./options.ts";

export function forward(call: ForwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>): void {
  const { logits, targets } = call.inputs;
  const { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns } = call.options;
  const losses = hostData(call.outputs.losses);
  let sum = 0;
  let count = 0;
  for (const [row, target] of targets.readNow().entries()) {
    const start = logits.offset + row * logits.rowStride;
    const x = hostData(logits).subarray(start, start + vocabSize);
    const logSumExp = logSumExpOf(x);
    if (call.saved) hostData(call.saved.logSumExp)[row] = logSumExp;
    losses[row] = target === ignoreIndex ? 0 : logSumExp - (x[target] ?? NaN);
    if (target === ignoreIndex) continue;
    sum += losses[row];
    count++;
  }
  hostData(call.outputs.loss)[0] = count === 0 ? 0 : sum / count;
  if (call.saved) hostData(call.saved.inverseCount)[0] = count === 0 ? 0 : 1 / count;
}

function logSumExpOf(x: Float64Array): number {
  const largest = x.reduce((a, b) => Math.max(a, b));
  return largest + Math.log(x.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}

/** grad.logits += (softmax(logits) - onehot(target)) (grad.loss / count + grad.losses). */
export function backward(call: BackwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>): void {
  const { logits, targets } = call.inputs;
  const { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns } = call.options;
  const { logSumExp, inverseCount } = call.saved;
  const { loss, losses } = call.gradOutputs;
  const { logits: grad } = call.gradInputs;
  if (!grad) return;
  const shared = loss ? hostData(loss)[0] * hostData(inverseCount)[0] : 0;
  for (const [row, target] of targets.readNow().entries()) {
    if (target === ignoreIndex) continue;
    const factor = shared + (losses ? hostData(losses)[row] : 0);
    for (let column = 0; column < vocabSize; column++) {
      const logit = hostData(logits)[logits.offset + row * logits.rowStride + column];
      const softmax = Math.exp(logit - hostData(logSumExp)[row]);
      hostData(grad)[grad.offset + row * grad.rowStride + column] += (softmax - (column === target ? 1 : 0)) * factor;
    }
  }
}
