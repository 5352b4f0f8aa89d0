// fftConvolution on the reference backend: the sums that define it where sequences are short, else a transform in float64.
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { hostData } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { powerOfTwoFrom, productOf, spectrumOf } from "./fft.ts";
import type { FftConvolutionInputs, FftConvolutionOutputs } from "./index.ts";

/** Up to so many steps sums are taken as they are written. */
const DIRECT_STEPS = 128;

export function forward({
  inputs: { x, kernel, D },
  outputs: { y },
}: ForwardCall<FftConvolutionInputs, FftConvolutionOutputs, object>): void {
  const [batch, length, channels] = x.shape;
  for (let channel = 0; channel < channels; channel++) {
    const taps = columnOf(kernel, 0, length, channel);
    const skip = D ? hostData(D)[D.offset + channel] : 0;
    for (let b = 0; b < batch; b++) {
      const signal = columnOf(x, b * length, length, channel);
      const result = convolve(signal, taps);
      for (let t = 0; t < length; t++)
        hostData(y)[y.offset + (b * length + t) * y.rowStride + channel] = result[t] + skip * signal[t];
    }
  }
}

/** grad.x = correlation of grad.y with the kernel + D grad.y; grad.kernel = that of grad.y with x; grad.D = sum grad.y x. */
export function backward(call: BackwardCall<FftConvolutionInputs, FftConvolutionOutputs, object>): void {
  const { x, kernel, D } = call.inputs;
  const { x: gradX, kernel: gradKernel, D: gradD } = call.gradInputs;
  const { y: gradY } = call.gradOutputs;
  if (!gradY) return;
  const [batch, length, channels] = x.shape;
  for (let channel = 0; channel < channels; channel++) {
    const taps = columnOf(kernel, 0, length, channel);
    const skip = D ? hostData(D)[D.offset + channel] : 0;
    for (let b = 0; b < batch; b++) {
      const signal = columnOf(x, b * length, length, channel);
      const grad = columnOf(gradY, b * length, length, channel);
      const ofX = gradX && correlate(grad, taps);
      const ofKernel = gradKernel && correlate(grad, signal);
      for (let t = 0; t < length; t++) {
        if (ofX) add(gradX, b * length + t, channel, ofX[t] + skip * grad[t]);
        if (ofKernel) add(gradKernel, t, channel, ofKernel[t]);
        if (gradD) add(gradD, 0, channel, grad[t] * signal[t]);
      }
    }
  }
}

/** y[t] = sum_{s <= t} a[t - s] b[s], by the transform where that is quicker. */
export function convolve(a: Float64Array, b: Float64Array): Float64Array {
  if (a.length <= DIRECT_STEPS) return convolveDirectly(a, b);
  const size = powerOfTwoFrom(2 * a.length);
  return productOf(spectrumOf(a, size), spectrumOf(b, size)).subarray(0, a.length);
}

/** y[t] = sum_s a[s + t] b[s]. */
export function correlate(a: Float64Array, b: Float64Array): Float64Array {
  if (a.length <= DIRECT_STEPS) return convolveDirectly(a.toReversed(), b).toReversed();
  const size = powerOfTwoFrom(2 * a.length);
  return productOf(spectrumOf(a, size), spectrumOf(b, size), true).subarray(0, a.length);
}

/** The sum itself. */
export function convolveDirectly(a: Float64Array, b: Float64Array): Float64Array {
  const y = new Float64Array(a.length);
  for (let t = 0; t < a.length; t++) for (let s = 0; s <= t; s++) y[t] += a[t - s] * b[s];
  return y;
}

function columnOf(tensor: Tensor, firstRow: number, rows: number, column: number): Float64Array {
  const { offset, rowStride } = tensor;
  return Float64Array.from({ length: rows }, (_, i) => hostData(tensor)[offset + (firstRow + i) * rowStride + column]);
}

function add(tensor: Tensor, row: number, column: number, value: number): void {
  hostData(tensor)[tensor.offset + row * tensor.rowStride + column] += value;
}
