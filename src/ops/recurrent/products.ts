// The gradients of W_hh and its bias, on any device: one product over all tokens, after the recurrence.
import { runBackward } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { LinearInputs } from "../linear/index.ts";
import { linear } from "../linear/index.ts";

/**
 * grad.weight += pulledᵀ h; grad.bias += sum of pulled over tokens.
 * @param pulled gradients of what the gates get from the state, `[batch, length, count · dHidden]`
 * @param before the state before each token, h first, `[batch, length, ...]`
 */
export function backwardProducts(
  grads: { readonly weight: Tensor; readonly gradWeight: Tensor | undefined; readonly gradBias: Tensor | undefined },
  { pulled, before }: { pulled: Tensor; before: Tensor },
): void {
  if (!grads.gradWeight && !grads.gradBias) return;
  const { weight } = grads;
  const inputs: LinearInputs = { x: before.columnsOf(0, weight.columns), weight };
  runBackward(linear, {
    inputs,
    outputs: { y: pulled },
    saved: {},
    options: {},
    gradOutputs: { y: pulled },
    gradInputs: { weight: grads.gradWeight, bias: grads.gradBias },
  });
}
