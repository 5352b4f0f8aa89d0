// embedding: one row of a matrix a token.
import { DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { checkIds } from "./check-ids.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type EmbeddingInputs = { readonly ids: Tensor; readonly weight: Tensor };
export type EmbeddingOutputs = { readonly y: Tensor };

export interface EmbeddingOptions {
  /**
   * Whether ids are checked on the host first; default true. Set false inside a plan (WasmBackend.capture), whose ids
   * come later: an id out of range then gives a row of NaN.
   */
  readonly checked?: boolean;
}

/**
 * y[..., :] = weight[ids[...], :].
 * @param ids i32 `[batch, length]` (or any other shape), 0 to vocabSize - 1
 * @param weight `[vocabSize, width]`, rows or packed (panels, int8)
 * @returns y `[...ids.shape, width]`
 * @throws ShapeError, DTypeError; DataError for an id outside of the vocabulary, which names it and its position
 */
export const embedding: Op<EmbeddingInputs, EmbeddingOutputs, EmbeddingOptions> = defineOp<
  EmbeddingInputs,
  EmbeddingOutputs,
  EmbeddingOptions
>({
  name: "embedding",
  shape({ ids, weight }, { checked = true }) {
    if (ids.dtype !== "i32")
      throw new DTypeError(`embedding: ids must be i32, got ${ids.dtype}. Make them with tensorFrom(…, "i32").`);
    const [vocabSize, width] = weight.shape;
    if (weight.shape.length !== 2 || !width || !vocabSize)
      throw new ShapeError(`embedding: weight must be [vocabSize, width], got ${formatShape(weight.shape)}.`);
    if (checked) checkIds("embedding: token id", ids, vocabSize);
    return { y: { shape: [...ids.shape, width] } };
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["weight"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
