// lstm in float64, a sequence at a time, every step kept: the specification. Formulas: README.md.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { recurrentSizes } from "../recurrent/checks.ts";
import { isStart, sigmoid, stateOf, timesState, timesTransposed } from "../recurrent/reference.ts";
import { addTo, elementOf, setTo } from "../reference-elements.ts";
import type { LstmInputs, LstmOutputs } from "./index.ts";

/** A token of one sequence: the state before it, its gates after their nonlinearities, and the state after it. */
interface Step {
  readonly hBefore: number[];
  readonly cBefore: number[];
  readonly i: number[];
  readonly f: number[];
  readonly g: number[];
  readonly o: number[];
  readonly h: number[];
  readonly c: number[];
}

export function forward({ inputs, outputs }: ForwardCall<LstmInputs, LstmOutputs, object>): void {
  const { batch, length, dHidden } = recurrentSizes(inputs);
  for (let sequence = 0; sequence < batch; sequence++) {
    const steps = runSteps(inputs, sequence);
    for (let k = 0; k < dHidden; k++) {
      for (let t = 0; t < length; t++) setTo(outputs.y, sequence * length + t, k, steps[t].h[k]);
      setTo(outputs.finalH, sequence, k, steps[length - 1].h[k]);
      setTo(outputs.finalC, sequence, k, steps[length - 1].c[k]);
    }
  }
}

/**
 * From the end, with gradH and gradC what later tokens hand back: gradH += grad.y;  gradC += gradH o (1 - tanh²c);
 * the gates' gradients (before their nonlinearities) are gradC g i (1 - i), gradC c[t-1] f (1 - f), gradC i (1 - g²) and
 * gradH tanh(c) o (1 - o);  then gradC becomes gradC f, gradH Wᵀ times those, and both 0 where a document starts.
 */
export function backward({ inputs, gradOutputs, gradInputs }: BackwardCall<LstmInputs, LstmOutputs, object>): void {
  const { batch, length, dHidden } = recurrentSizes(inputs);
  for (let sequence = 0; sequence < batch; sequence++) {
    const steps = runSteps(inputs, sequence);
    let gradH = stateOf(gradOutputs.finalH, sequence, dHidden);
    let gradC = stateOf(gradOutputs.finalC, sequence, dHidden);
    for (let t = length - 1; t >= 0; t--) {
      const row = sequence * length + t;
      const { hBefore, cBefore, i, f, g, o, c } = steps[t];
      const gradGates = Array.from({ length: 4 * dHidden }, () => 0);
      for (let k = 0; k < dHidden; k++) {
        const tanhC = Math.tanh(c[k]);
        if (gradOutputs.y) gradH[k] += elementOf(gradOutputs.y, row, k);
        gradC[k] += gradH[k] * o[k] * (1 - tanhC ** 2);
        gradGates[k] = gradC[k] * g[k] * i[k] * (1 - i[k]);
        gradGates[dHidden + k] = gradC[k] * cBefore[k] * f[k] * (1 - f[k]);
        gradGates[2 * dHidden + k] = gradC[k] * i[k] * (1 - g[k] ** 2);
        gradGates[3 * dHidden + k] = gradH[k] * tanhC * o[k] * (1 - o[k]);
      }
      gradGates.forEach((grad, gate) => {
        addTo(gradInputs.gates, row, gate, grad);
        for (let k = 0; k < dHidden; k++) addTo(gradInputs.weight, gate, k, grad * hBefore[k]);
      });
      const isKept = !isStart(inputs.documentStarts, sequence, t);
      gradH = timesTransposed(inputs.weight, gradGates).map((value) => (isKept ? value : 0));
      gradC = gradC.map((value, k) => (isKept ? value * f[k] : 0));
    }
    for (let k = 0; k < dHidden; k++) {
      addTo(gradInputs.initialH, sequence, k, gradH[k]);
      addTo(gradInputs.initialC, sequence, k, gradC[k]);
    }
  }
}

function runSteps(inputs: LstmInputs, sequence: number): Step[] {
  const { gates, weight, initialH, initialC, documentStarts } = inputs;
  const { length, dHidden } = recurrentSizes(inputs);
  const zero = stateOf(undefined, sequence, dHidden);
  const steps: Step[] = [];
  let h = stateOf(initialH, sequence, dHidden);
  let c = stateOf(initialC, sequence, dHidden);
  for (let t = 0; t < length; t++) {
    const starts = isStart(documentStarts, sequence, t);
    const [hBefore, cBefore] = starts ? [zero, zero] : [h, c];
    const sums = timesState(weight, hBefore).map((sum, gate) => sum + elementOf(gates, sequence * length + t, gate));
    const gate = (index: number): number[] => sums.slice(index * dHidden, (index + 1) * dHidden);
    const [i, f, o] = [0, 1, 3].map((index) => gate(index).map(sigmoid));
    const g = gate(2).map(Math.tanh);
    c = cBefore.map((before, k) => f[k] * before + i[k] * g[k]);
    h = c.map((value, k) => o[k] * Math.tanh(value));
    steps.push({ hBefore, cBefore, i, f, g, o, h, c });
  }
  return steps;
}
