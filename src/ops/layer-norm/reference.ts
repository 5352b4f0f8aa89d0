// layerNorm on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { addTo, elementOf, setTo } from "../reference-elements.ts";
import type { LayerNormInputs, LayerNormOptions, LayerNormOutputs } from "./index.ts";

export function forward(call: ForwardCall<LayerNormInputs, LayerNormOutputs, LayerNormOptions>): void {
  const { x, weight, bias } = call.inputs;
  const { y } = call.outputs;
  const { eps = 1e-5 } = call.options;
  for (let row = 0; row < x.rows; row++) {
    let mean = 0;
    for (let column = 0; column < x.columns; column++) mean += elementOf(x, row, column) / x.columns;
    let variance = 0;
    for (let column = 0; column < x.columns; column++) variance += (elementOf(x, row, column) - mean) ** 2 / x.columns;
    const inverse = 1 / Math.sqrt(variance + eps);
    if (call.saved) {
      setTo(call.saved.mean, 0, row, mean);
      setTo(call.saved.inverse, 0, row, inverse);
    }
    for (let column = 0; column < x.columns; column++) {
      const normed = (elementOf(x, row, column) - mean) * inverse;
      setTo(y, row, column, normed * elementOf(weight, 0, column) + elementOf(bias, 0, column));
    }
  }
}

/**
 * With n = (x - mean) r, r = inverse, p = weight grad.y:
 * grad.x += r (p - mean(p) - n mean(p n)); grad.weight += sum over rows of grad.y n; grad.bias += sum of grad.y.
 */
export function backward(call: BackwardCall<LayerNormInputs, LayerNormOutputs, LayerNormOptions>): void {
  const { x, weight } = call.inputs;
  const { y: gradY } = call.gradOutputs;
  const { gradInputs, saved } = call;
  if (!gradY) return;
  for (let row = 0; row < x.rows; row++) {
    const mean = elementOf(saved.mean, 0, row);
    const inverse = elementOf(saved.inverse, 0, row);
    const normed = (column: number): number => (elementOf(x, row, column) - mean) * inverse;
    const pulled = (column: number): number => elementOf(weight, 0, column) * elementOf(gradY, row, column);
    let meanPulled = 0;
    let meanProduct = 0;
    for (let column = 0; column < x.columns; column++) {
      meanPulled += pulled(column) / x.columns;
      meanProduct += (pulled(column) * normed(column)) / x.columns;
    }
    for (let column = 0; column < x.columns; column++) {
      addTo(gradInputs.x, row, column, inverse * (pulled(column) - meanPulled - normed(column) * meanProduct));
      addTo(gradInputs.weight, 0, column, elementOf(gradY, row, column) * normed(column));
      addTo(gradInputs.bias, 0, column, elementOf(gradY, row, column));
    }
  }
}
