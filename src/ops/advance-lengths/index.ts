// advanceLengths: the rows of a cache have grown by so many tokens; a device that replays a plan counts for itself.
import { DTypeError } from "../../core/errors.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type AdvanceLengthsInputs = { readonly lengths: Tensor };
export type AdvanceLengthsOutputs = Record<string, never>;

export interface AdvanceLengthsOptions {
  /** What is added, a whole number. */
  readonly by: number;
}

/**
 * lengths += by, **in place**.
 * @param lengths i32 `[batch]`
 * @throws DTypeError
 */
export const advanceLengths: Op<AdvanceLengthsInputs, AdvanceLengthsOutputs, AdvanceLengthsOptions> = defineOp<
  AdvanceLengthsInputs,
  AdvanceLengthsOutputs,
  AdvanceLengthsOptions
>({
  name: "advanceLengths",
  shape({ lengths }) {
    if (lengths.dtype !== "i32") throw new DTypeError(`advanceLengths: lengths must be i32, got ${lengths.dtype}.`);
    return {};
  },
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
});
