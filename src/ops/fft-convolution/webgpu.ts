// fftConvolution on the WebGPU backend: cuts channels and sequences where spectra are large; dispatches. See README.md.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor } from "../../tensor/tensor.ts";
import { rowsPerBinding } from "../webgpu-elements.ts";
import { CIRCLE, COMPLEX } from "../webgpu-complex.ts";
import type { FftConvolutionInputs, FftConvolutionOutputs } from "./index.ts";
import { addSkipGradient } from "./webgpu-skip.ts";
import { PAIRS, PRODUCTS } from "./webgpu-stages.ts";
import type { TransformPlan } from "./webgpu-transforms.ts";
import { convolveWith, planOf, sequencesOf, spectraOf, spectrumBytes } from "./webgpu-transforms.ts";

/** Bytes of spectra that are held at once, at the most. */
const MOST_BYTES = 1 << 28;
/** Groups of channels are multiples of this, where they can be. */
const CHANNELS = 32;
/** Threads of a workgroup that multiplies spectra. */
const WORKGROUP = 256;

export function forward(
  { inputs: { x, kernel, D }, outputs: { y } }: ForwardCall<FftConvolutionInputs, FftConvolutionOutputs, object>,
  backend: WebGpuBackend,
): void {
  convolveAll(backend, { x, y, kernel, D, isCorrelation: false, isForward: true });
}

export function backward(
  { inputs, gradOutputs, gradInputs }: BackwardCall<FftConvolutionInputs, FftConvolutionOutputs, object>,
  backend: WebGpuBackend,
): void {
  const { x, kernel, D } = inputs;
  const { y: gradY } = gradOutputs;
  const { x: gradX, kernel: gradKernel, D: gradD } = gradInputs;
  if (!gradY) return;
  if (gradX) convolveAll(backend, { x: gradY, y: gradX, kernel, D, isCorrelation: true, isForward: false });
  if (gradKernel) addKernelGradient(backend, x, gradY, gradKernel);
  if (gradD) addSkipGradient(backend, x, gradY, gradD);
}

interface ConvolutionCall {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly kernel: Tensor;
  readonly D: Tensor | undefined;
  readonly isCorrelation: boolean;
  /** Whether y is an output, which is overwritten; else a gradient. */
  readonly isForward: boolean;
}

function convolveAll(backend: WebGpuBackend, { x, y, kernel, D, isCorrelation, isForward }: ConvolutionCall): void {
  const plan = planOf(backend, x.shape[1]);
  for (const { from, to, sequences } of groupsOf(backend, plan, [x, y], 1)) {
    const spectrum = spectraOf(backend, plan, kernel.columnsOf(from, to).reshape([1, kernel.rows, to - from]));
    for (let b = 0; b < x.shape[0]; b += sequences) {
      const count = Math.min(sequences, x.shape[0] - b);
      const part = (tensor: Tensor): Tensor => tensor.entries(b, count).columnsOf(from, to);
      const call = { x: part(x), y: part(y), D: D?.columnsOf(from, to), spectrum, isCorrelation, isForward };
      convolveWith(backend, plan, call);
    }
    spectrum.dispose();
  }
}

/** grad.kernel += sum over sequences of the correlation of grad.y with x. */
function addKernelGradient(backend: WebGpuBackend, x: Tensor, gradY: Tensor, gradKernel: Tensor): void {
  const [batch, length] = x.shape;
  const plan = planOf(backend, length);
  for (const { from, to, sequences } of groupsOf(backend, plan, [x, gradY], 2)) {
    const channels = to - from;
    const sum = emptyTensor(backend, [plan.total, 2 * channels]);
    for (let b = 0; b < batch; b += sequences) {
      const count = Math.min(sequences, batch - b);
      const ofX = spectraOf(backend, plan, x.entries(b, count).columnsOf(from, to));
      const ofY = spectraOf(backend, plan, gradY.entries(b, count).columnsOf(from, to));
      const params = { sequences: count, total: plan.total, channels };
      const groups = groupsFor((plan.total / 2) * channels, WORKGROUP);
      backend.dispatch(fftProducts({ adds: b > 0 }), { y: ofY, x: ofX, sum }, params, groups);
      ofX.dispose();
      ofY.dispose();
    }
    sequencesOf(backend, plan, sum, gradKernel.columnsOf(from, to).reshape([1, length, channels]));
    sum.dispose();
  }
}

/** Groups of channels, and how many sequences of them at once: so that spectra fit into bindings, and few are held. */
function groupsOf(
  backend: WebGpuBackend,
  plan: TransformPlan,
  tensors: readonly Tensor[],
  held: number,
): { from: number; to: number; sequences: number }[] {
  const [batch, length, channels] = tensors[0].shape;
  const most = Math.min(backend.maxBindingBytes - 512, MOST_BYTES / held);
  const fitting = Math.max(1, Math.floor(most / spectrumBytes(plan)));
  const atOnce = fitting >= channels ? channels : fitting > CHANNELS ? fitting - (fitting % CHANNELS) : fitting;
  const ofInputs = Math.max(1, Math.floor(rowsPerBinding(backend, tensors) / length));
  // Spectra of sequences are made where they are multiplied with each other, or too long for a workgroup.
  const ofSpectra = held === 1 && plan.blocks === 1 ? batch : Math.max(1, Math.floor(fitting / atOnce));
  const groups = [];
  for (let from = 0; from < channels; from += atOnce)
    groups.push({ from, to: Math.min(channels, from + atOnce), sequences: Math.min(batch, ofInputs, ofSpectra) });
  return groups;
}

const fftProducts: KernelFamily<{ adds: boolean }> = defineKernel(
  "fftProducts",
  [{ adds: true }, { adds: false }],
  ({ adds }) => ({
    buffers: {
      y: "read vec2<f32>",
      x: "read vec2<f32>",
      sum: adds ? "add vec2<f32>" : "write vec2<f32>",
    },
    params: ["sequences", "total", "channels"],
    body: /* wgsl */ `${COMPLEX}${CIRCLE}
const IS_CORRELATION = true;
${PAIRS}${PRODUCTS}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let item = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  if (item >= params.total / 2u * params.channels) { return; }
  let channel = item % params.channels;
  let places = pair_at(item / params.channels);
  let p = places.x * params.channels + channel;
  let q = places.y * params.channels + channel;
  var total = Pair(${adds ? "sum[p], sum[q]" : "vec2f(0), vec2f(0)"});
  for (var b = 0u; b < params.sequences; b++) {
    let first = b * params.total * params.channels;
    let of_y = Pair(y[first + p], y[first + q]);
    let of_x = Pair(x[first + p], x[first + q]);
    if (places.x == 0u) {
      // Places 0 and 1 are their own partners.
      total.p += product(Pair(of_y.p, of_y.p), Pair(of_x.p, of_x.p), 0u).p;
      total.q += product(Pair(of_y.q, of_y.q), Pair(of_x.q, of_x.q), 1u).p;
    } else {
      let result = product(of_y, of_x, places.x);
      total.p += result.p;
      total.q += result.q;
    }
  }
  sum[p] = total.p;
  sum[q] = total.q;
}`,
  }),
);
