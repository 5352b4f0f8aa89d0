// crossEntropy on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { CrossEntropyInputs, CrossEntropyOutputs } from "./index.ts";
import { IGNORE_INDEX } from "./options.ts";
import type { CrossEntropyOptions } from "./options.ts";

export function forward(call: ForwardCall<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions>): void {
  const { inputs, outputs, saved, options } = call;
  storeLosses(inputs, { losses: outputs.losses, logSumExp: saved?.logSumExp }, options);
  storeMean(inputs.targets, { ...outputs, inverseCount: saved?.inverseCount }, options);
}

/** The losses of all rows, and their log-sum-exp where that is wanted. */
export function storeLosses(
  { logits, targets }: CrossEntropyInputs,
  { losses, logSumExp }: { losses: Tensor; logSumExp: Tensor | undefined },
  { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns }: CrossEntropyOptions,
): void {
  for (const [row, target] of targets.readNow().entries()) {
    const start = logits.offset + row * logits.rowStride;
    const x = hostData(logits).subarray(start, start + vocabSize);
    const logSum = logSumExpOf(x);
    if (logSumExp) hostData(logSumExp)[logSumExp.offset + row] = logSum;
    hostData(losses)[losses.offset + row] = target === ignoreIndex ? 0 : logSum - (x[target] ?? NaN);
  }
}

/** loss = the mean of the losses that are not ignored; inverseCount = 1 / their number, where that is wanted. */
export function storeMean(
  targets: Tensor,
  { losses, loss, inverseCount }: { losses: Tensor; loss: Tensor; inverseCount: Tensor | undefined },
  { ignoreIndex = IGNORE_INDEX }: CrossEntropyOptions,
): void {
  let sum = 0;
  let count = 0;
  for (const [row, target] of targets.readNow().entries()) {
    if (target === ignoreIndex) continue;
    sum += hostData(losses)[losses.offset + row];
    count++;
  }
  hostData(loss)[0] = count === 0 ? 0 : sum / count;
  if (inverseCount) hostData(inverseCount)[0] = count === 0 ? 0 : 1 / count;
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
    const factor = shared + (losses ? hostData(losses)[losses.offset + row] : 0);
    for (let column = 0; column < vocabSize; column++) {
      const logit = hostData(logits)[logits.offset + row * logits.rowStride + column];
      const softmax = Math.exp(logit - hostData(logSumExp)[logSumExp.offset + row]);
      hostData(grad)[grad.offset + row * grad.rowStride + column] += (softmax - (column === target ? 1 : 0)) * factor;
    }
  }
}
