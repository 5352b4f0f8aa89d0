// routeExperts: which experts a token goes to, with which weights, and how evenly the experts are used.
// Source: Fedus et al. 2021, "Switch Transformers", eq. 1 to 6; for topK > 1 Jiang et al. 2024, "Mixtral of Experts", eq. 1.
import { ConfigError, DTypeError, ShapeError } from "../../core/errors.ts";
import { formatShape } from "../../core/shape.ts";
import { defineOp } from "../../tensor/define-op.ts";
import type { Op } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import * as reference from "./reference.ts";
import * as wasm from "./wasm.ts";
import * as webgpu from "./webgpu.ts";

export type RouteExpertsInputs = { readonly logits: Tensor };
export type RouteExpertsOutputs = { readonly gates: Tensor; readonly choices: Tensor; readonly balance: Tensor };
export interface RouteExpertsOptions {
  /** Experts of a token. */
  readonly topK: number;
}

/**
 * p = softmax(logits) over all experts. choices = the topK experts of the largest p, in falling order, the lower index
 * first where they tie. gates = their p; for topK > 1 divided by their sum.
 *
 * balance = experts Σ_e f_e P_e, where f_e is the share of all (token, slot) choices that fell on expert e, and P_e the mean
 * of p_e over tokens. It is 1 when all is even, and its gradient takes f as constant.
 * @param logits f32 `[..., experts]`, may be a view of columns
 * @returns gates f32 `[..., topK]`, choices i32 `[..., topK]`, balance f32 `[]`
 * @throws ShapeError, DTypeError, ConfigError (topK)
 */
export const routeExperts: Op<RouteExpertsInputs, RouteExpertsOutputs, RouteExpertsOptions> = defineOp<
  RouteExpertsInputs,
  RouteExpertsOutputs,
  RouteExpertsOptions
>({
  name: "routeExperts",
  shape({ logits }, { topK }) {
    if (logits.shape.length < 2 || logits.size === 0)
      throw new ShapeError(
        `routeExperts: logits must be [..., experts] with one token or more, got ${formatShape(logits.shape)}.`,
      );
    if (logits.dtype !== "f32")
      throw new DTypeError(
        `routeExperts: logits must be f32, got ${logits.dtype}. Ask linear for them with { dtype: "f32" }.`,
      );
    if (!(Number.isInteger(topK) && topK >= 1 && topK <= logits.columns))
      throw new ConfigError(
        `routeExperts: topK must be a whole number from 1 to the ${logits.columns} experts, got ${topK}.`,
      );
    const shape = [...logits.shape.slice(0, -1), topK];
    return { gates: { shape }, choices: { shape, dtype: "i32" }, balance: { shape: [] } };
  },
  saves: ({ logits }) => ({ probabilities: { shape: logits.shape }, shares: { shape: [logits.columns] } }),
  kernels: { reference: reference.forward, wasm: wasm.forward, webgpu: webgpu.forward },
  gradient: {
    of: ["logits"],
    kernels: { reference: reference.backward, wasm: wasm.backward, webgpu: webgpu.backward },
  },
});
