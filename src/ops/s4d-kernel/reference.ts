// s4dKernel on the reference backend.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { S4dKernelInputs, S4dKernelOptions, S4dKernelOutputs } from "./index.ts";
import type { Complex } from "./parameters.ts";
import { addPairGradients, addTo, at, complexExp, discretePair, multiply } from "./parameters.ts";

export function forward(call: ForwardCall<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions>): void {
  const { kernel } = call.outputs;
  const [length, channels] = kernel.shape;
  const pairs = call.inputs.A_imag.columns;
  for (let channel = 0; channel < channels; channel++) {
    for (let l = 0; l < length; l++) hostData(kernel)[kernel.offset + l * kernel.rowStride + channel] = 0;
    for (let pair = 0; pair < pairs; pair++) {
      const { dtA, BBar, C } = discretePair(call.inputs, channel, pair);
      const weight = multiply(C, BBar);
      for (let l = 0; l < length; l++) addTo(kernel, l, channel, 2 * multiply(weight, power(dtA, l)).re);
    }
  }
}

/** With S0 = sum_l grad[l] ABar^l and S1 = sum_l l grad[l] ABar^l: see README.md. */
export function backward(call: BackwardCall<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions>): void {
  const { kernel: grad } = call.gradOutputs;
  if (!grad) return;
  const [length, channels] = grad.shape;
  const pairs = call.inputs.A_imag.columns;
  for (let channel = 0; channel < channels; channel++)
    for (let pair = 0; pair < pairs; pair++) {
      const discrete = discretePair(call.inputs, channel, pair);
      const { dtA, BBar, C } = discrete;
      const s0 = { re: 0, im: 0 };
      const s1 = { re: 0, im: 0 };
      for (let l = 0; l < length; l++) {
        const { re, im } = power(dtA, l);
        const g = at(grad, l, channel);
        s0.re += g * re;
        s0.im += g * im;
        s1.re += l * g * re;
        s1.im += l * g * im;
      }
      addPairGradients(call.gradInputs, channel, pair, discrete, {
        ofPower: twice(multiply(multiply(C, BBar), s1)),
        ofB: twice(multiply(C, s0)),
        ofC: multiply(BBar, s0),
      });
    }
}

/** ABar^l. */
function power(dtA: Complex, l: number): Complex {
  return complexExp({ re: l * dtA.re, im: l * dtA.im });
}

function twice({ re, im }: Complex): Complex {
  return { re: 2 * re, im: 2 * im };
}
