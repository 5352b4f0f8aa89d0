// gru in float64, a sequence at a time, every step kept: the specification. Formulas: README.md.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { recurrentSizes } from "../recurrent/checks.ts";
import { isStart, sigmoid, stateOf, timesState, timesTransposed } from "../recurrent/reference.ts";
import { addTo, elementOf, setTo } from "../reference-elements.ts";
import type { GruInputs, GruOutputs } from "./index.ts";

/** A token of one sequence: the state before it, its gates after their nonlinearities, and the state after it. */
interface Step {
  readonly hBefore: number[];
  readonly r: number[];
  readonly z: number[];
  readonly n: number[];
  /** (W h + bias) of the gate n, before r. */
  readonly u: number[];
  readonly h: number[];
}

export function forward({ inputs, outputs }: ForwardCall<GruInputs, GruOutputs, object>): void {
  const { batch, length, dHidden } = recurrentSizes(inputs);
  for (let sequence = 0; sequence < batch; sequence++) {
    const steps = runSteps(inputs, sequence);
    for (let k = 0; k < dHidden; k++) {
      for (let t = 0; t < length; t++) setTo(outputs.y, sequence * length + t, k, steps[t].h[k]);
      setTo(outputs.finalH, sequence, k, steps[length - 1].h[k]);
    }
  }
}

/**
 * From the end, with gradH what later tokens hand back: gradH += grad.y;  the gradients of what r, z and n are the
 * nonlinearities of are, last first, p_n = gradH (1 - z) (1 - n²), p_z = gradH (h[t-1] - n) z (1 - z) and
 * p_r = p_n u r (1 - r). Those of W h + bias are p_r, p_z and p_n r;  then gradH becomes gradH z + Wᵀ times those, and 0
 * where a document starts.
 */
export function backward({ inputs, gradOutputs, gradInputs }: BackwardCall<GruInputs, GruOutputs, object>): void {
  const { batch, length, dHidden } = recurrentSizes(inputs);
  for (let sequence = 0; sequence < batch; sequence++) {
    const steps = runSteps(inputs, sequence);
    let gradH = stateOf(gradOutputs.finalH, sequence, dHidden);
    for (let t = length - 1; t >= 0; t--) {
      const row = sequence * length + t;
      const { hBefore, r, z, n, u } = steps[t];
      const products = Array.from({ length: 3 * dHidden }, () => 0);
      for (let k = 0; k < dHidden; k++) {
        if (gradOutputs.y) gradH[k] += elementOf(gradOutputs.y, row, k);
        const gradN = gradH[k] * (1 - z[k]) * (1 - n[k] ** 2);
        products[k] = gradN * u[k] * r[k] * (1 - r[k]);
        products[dHidden + k] = gradH[k] * (hBefore[k] - n[k]) * z[k] * (1 - z[k]);
        products[2 * dHidden + k] = gradN * r[k];
        addTo(gradInputs.gates, row, k, products[k]);
        addTo(gradInputs.gates, row, dHidden + k, products[dHidden + k]);
        addTo(gradInputs.gates, row, 2 * dHidden + k, gradN);
      }
      products.forEach((grad, gate) => {
        addTo(gradInputs.bias, 0, gate, grad);
        for (let k = 0; k < dHidden; k++) addTo(gradInputs.weight, gate, k, grad * hBefore[k]);
      });
      const isKept = !isStart(inputs.documentStarts, sequence, t);
      const through = timesTransposed(inputs.weight, products);
      gradH = gradH.map((value, k) => (isKept ? value * z[k] + through[k] : 0));
    }
    for (let k = 0; k < dHidden; k++) addTo(gradInputs.initialH, sequence, k, gradH[k]);
  }
}

function runSteps(inputs: GruInputs, sequence: number): Step[] {
  const { gates, weight, bias, initialH, documentStarts } = inputs;
  const { length, dHidden } = recurrentSizes(inputs);
  const zero = stateOf(undefined, sequence, dHidden);
  const steps: Step[] = [];
  let h = stateOf(initialH, sequence, dHidden);
  for (let t = 0; t < length; t++) {
    const hBefore = isStart(documentStarts, sequence, t) ? zero : h;
    const sums = timesState(weight, hBefore).map((sum, gate) => sum + elementOf(bias, 0, gate));
    const own = (gate: number, k: number): number => elementOf(gates, sequence * length + t, gate * dHidden + k);
    const part = (gate: number): number[] => sums.slice(gate * dHidden, (gate + 1) * dHidden);
    const [r, z] = [0, 1].map((gate) => part(gate).map((sum, k) => sigmoid(sum + own(gate, k))));
    const u = part(2);
    const n = u.map((sum, k) => Math.tanh(own(2, k) + r[k] * sum));
    h = n.map((value, k) => (1 - z[k]) * value + z[k] * hBefore[k]);
    steps.push({ hBefore, r, z, n, u, h });
  }
  return steps;
}
