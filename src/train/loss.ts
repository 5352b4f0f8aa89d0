// How well a model predicts targets, without all logits where the model can do so.
import type { LanguageModel, LossOptions, LossResult, ModelState } from "../nn/language-model.ts";
import { crossEntropy, IGNORE_INDEX } from "../ops/cross-entropy/index.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** The model's own `loss`; of a model without it the crossEntropy of its logits. */
export function lossOf<S extends ModelState>(
  model: LanguageModel<S>,
  tokens: Tensor,
  targets: Tensor,
  state: S,
  options: LossOptions = {},
): LossResult<S> {
  if (model.loss) return model.loss(tokens, targets, state, options);
  const { ignoreIndex = IGNORE_INDEX, ...rest } = options;
  const result = model.forward(tokens, state, rest);
  return { ...crossEntropy({ logits: result.logits, targets }, { ignoreIndex }), state: result.state };
}
