// linearCrossEntropy: the head of a language model and its loss in one op, which never holds all logits.
// Source: the idea of Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models", by rows.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { ConfigError, DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape, isSameShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { CrossEntropyOptions } from "../cross-entropy/index.ts";
import { IGNORE_INDEX } from "../cross-entropy/index.ts";
import * as reference from "../cross-entropy/reference.ts";
import * as wasm from "../cross-entropy/wasm.ts";
import * as webgpu from "../cross-entropy/webgpu.ts";
import { checkIds } from "../embedding/check-ids.ts";
import type { Losses } from "./by-chunks.ts";
import { backwardByChunks, forwardByChunks, keptByChunks } from "./by-chunks.ts";
import { addScaled } from "./webgpu.ts";

export type LinearCrossEntropyInputs = { readonly x: Tensor; readonly weight: Tensor; readonly targets: Tensor };
export type LinearCrossEntropyOutputs = { readonly loss: Tensor; readonly losses: Tensor };

/**
 * crossEntropy of the logits x Wᵀ: losses[i] = ln Σ_v exp(W[v]·x[i]) - W[targets[i]]·x[i], 0 where ignored; loss = their
 * mean over the positions that are not ignored. Logits, losses and sums are float32; products are of x's element type.
 * @param x `[..., inputs]`, may be a view of columns
 * @param weight `[vocabulary, inputs]`, by rows
 * @param targets i32 `[...]` with closed-up rows, 0 to vocabSize - 1 or ignoreIndex
 * @returns loss `[]`, losses `[...]`, both f32
 * @throws ShapeError, DTypeError, ConfigError (vocabSize); DataError for a target outside of the vocabulary
 */
export const linearCrossEntropy: Op<LinearCrossEntropyInputs, LinearCrossEntropyOutputs, CrossEntropyOptions> =
  defineOp<LinearCrossEntropyInputs, LinearCrossEntropyOutputs, CrossEntropyOptions>({
    name: "linearCrossEntropy",
    shape({ x, weight, targets }, { ignoreIndex = IGNORE_INDEX, vocabSize = weight.rows, checked = true }) {
      const [vocabulary, inputs] = weight.shape;
      if (weight.shape.length !== 2 || x.shape.length === 0 || x.columns !== inputs)
        throw new ShapeError(
          `linearCrossEntropy: x must be [..., inputs] and weight [vocabulary, inputs], got ${formatShape(x.shape)} and ${formatShape(weight.shape)}.`,
        );
      if (targets.dtype !== "i32")
        throw new DTypeError(
          `linearCrossEntropy: targets must be i32, got ${targets.dtype}. Make them with tensorFrom(…, "i32").`,
        );
      if (!isSameShape(targets.shape, x.shape.slice(0, -1)) || !targets.isContiguous)
        throw new ShapeError(
          `linearCrossEntropy: targets must be ${formatShape(x.shape.slice(0, -1))} with closed-up rows, got ${formatShape(targets.shape)}, rows ${targets.rowStride} apart.`,
        );
      if (!(Number.isInteger(vocabSize) && vocabSize >= 1 && vocabSize <= vocabulary))
        throw new ConfigError(
          `linearCrossEntropy: vocabSize must be a whole number from 1 to the weight's ${vocabulary} rows, got ${vocabSize}.`,
        );
      if (checked) checkIds("linearCrossEntropy: target", targets, vocabSize, ignoreIndex);
      return { loss: { shape: [] }, losses: { shape: targets.shape } };
    },
    saves: ({ x, weight }) => ({
      logSumExp: { shape: [x.rows] },
      inverseCount: { shape: [] },
      ...keptByChunks(x, weight),
    }),
    kernels: {
      reference: (call) => forwardByChunks(call, reference),
      wasm: (call, backend) => forwardByChunks(call, onDevice(wasm, backend)),
      webgpu: (call, backend) => forwardByChunks(call, onGpu(backend)),
    },
    gradient: {
      of: ["x", "weight"],
      kernels: {
        reference: (call) => backwardByChunks(call, reference),
        wasm: (call, backend) => backwardByChunks(call, onDevice(wasm, backend)),
        webgpu: (call, backend) => backwardByChunks(call, onGpu(backend)),
      },
    },
  });

function onGpu(backend: WebGpuBackend): Losses {
  return { ...onDevice(webgpu, backend), addScaled: (...args) => addScaled(...args, backend) };
}

/** The kernels of crossEntropy on one device. */
function onDevice<B>(kernels: LossesOn<B>, backend: B): Losses {
  return {
    storeLosses: (inputs, outputs, options) => kernels.storeLosses(inputs, outputs, options, backend),
    storeMean: (targets, outputs, options) => kernels.storeMean(targets, outputs, options, backend),
    backward: (call) => kernels.backward(call, backend),
  };
}

/** {@link Losses} whose functions take the backend last. */
type LossesOn<B> = {
  readonly [K in "storeLosses" | "storeMean" | "backward"]: (...args: [...Parameters<Losses[K]>, backend: B]) => void;
};
