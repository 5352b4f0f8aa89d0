// crossEntropy: how surprised a model is by the tokens that came, in nats, and the mean of it (the loss of training).
import { ConfigError, DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { checkIds } from "../embedding/check-ids.ts";
import { IGNORE_INDEX } from "./options.ts";
import type { CrossEntropyOptions } from "./options.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type CrossEntropyInputs = { readonly logits: Tensor; readonly targets: Tensor };
export type CrossEntropyOutputs = { readonly loss: Tensor; readonly losses: Tensor };

export { IGNORE_INDEX } from "./options.ts";
export type { CrossEntropyOptions } from "./options.ts";

/**
 * losses[i] = ln Σ_v exp(logits[i, v]) - logits[i, targets[i]], 0 where ignored; loss = their mean over the positions
 * that are not ignored, 0 when all are. NaN in a row that counts gives NaN.
 * @param logits `[..., vocabulary]`, may be a view of columns
 * @param targets i32 `[...]`, 0 to vocabSize - 1 or ignoreIndex
 * @returns loss `[]`, losses `[...]`
 * @throws ShapeError, DTypeError, ConfigError (vocabSize); DataError for a target outside of the vocabulary
 */
export const crossEntropy: Op<CrossEntropyInputs, CrossEntropyOutputs, CrossEntropyOptions> = defineOp<
  CrossEntropyInputs,
  CrossEntropyOutputs,
  CrossEntropyOptions
>({
  name: "crossEntropy",
  shape({ logits, targets }, { ignoreIndex = IGNORE_INDEX, vocabSize = logits.columns, checked = true }) {
    if (targets.dtype !== "i32")
      throw new DTypeError(
        `crossEntropy: targets must be i32, got ${targets.dtype}. Make them with tensorFrom(…, "i32").`,
      );
    if (logits.shape.length === 0 || !isSameShape(targets.shape, logits.shape.slice(0, -1)))
      throw new ShapeError(
        `crossEntropy: logits must be [..., vocabulary] and targets [...], got ${formatShape(logits.shape)} and ${formatShape(targets.shape)}.`,
      );
    if (!(Number.isInteger(vocabSize) && vocabSize >= 1 && vocabSize <= logits.columns))
      throw new ConfigError(
        `crossEntropy: vocabSize must be a whole number from 1 to the logits' ${logits.columns} columns, got ${vocabSize}.`,
      );
    if (checked) checkIds("crossEntropy: target", targets, vocabSize, ignoreIndex);
    return { loss: { shape: [] }, losses: { shape: targets.shape } };
  },
  saves: ({ logits }) => ({ logSumExp: { shape: [logits.rows] }, inverseCount: { shape: [] } }),
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["logits"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
