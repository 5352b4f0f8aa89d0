// s4dKernel on the WebGPU backend: a thread has a channel, and a stretch of time (forward) or a pair (backward). See README.md.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel } from "../../backends/webgpu/index.ts";
import type { BackwardCall, ForwardCall } from "../../tensor/define-op.ts";
import { scope } from "../../tensor/scope.ts";
import { emptyTensor, zeros } from "../../tensor/tensor.ts";
import { addPartialSums } from "../webgpu-column-sums.ts";
import { splitRows } from "../webgpu-elements.ts";
import type { S4dKernelInputs, S4dKernelOptions, S4dKernelOutputs } from "./index.ts";
import { addGradients, CHANNELS, discretize, DISCRETE, LANES } from "./webgpu-parameters.ts";

/** Steps between powers that are made anew from their logarithm: few, so that roundings do not add up. */
const STEPS = 16;
/** Blocks of time with partial sums, at the most. */
const BLOCKS = 64;
const LEAST_BLOCK = 128;

export function forward(
  { inputs, outputs: { kernel } }: ForwardCall<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions>,
  backend: WebGpuBackend,
): void {
  const [channels, pairs] = inputs.A_imag.shape;
  scope(() => {
    const discrete = discretize(backend, inputs);
    splitRows(backend, { kernel }, (parts, first) => {
      const params = { channels, pairs, first, length: parts.kernel.rows };
      const groups = [Math.ceil(channels / CHANNELS), Math.ceil(parts.kernel.rows / (STEPS * LANES))] as const;
      backend.dispatch(s4dKernelForward({}), { discrete, kernel: parts.kernel }, params, groups);
    });
  });
}

export function backward(
  { inputs, gradOutputs, gradInputs }: BackwardCall<S4dKernelInputs, S4dKernelOutputs, S4dKernelOptions>,
  backend: WebGpuBackend,
): void {
  const { kernel: grad } = gradOutputs;
  if (!grad) return;
  const [channels, pairs] = inputs.A_imag.shape;
  scope(() => {
    const discrete = discretize(backend, inputs);
    const sums = zeros(backend, [4 * pairs * channels]);
    splitRows(backend, { grad }, (parts, first) => {
      const { rows } = parts.grad;
      const steps = Math.ceil(Math.max(LEAST_BLOCK, rows / BLOCKS) / STEPS) * STEPS;
      const blocks = Math.ceil(rows / steps);
      const partials = emptyTensor(backend, [blocks, 4 * pairs * channels]);
      backend.dispatch(
        s4dKernelSums({}),
        { discrete, grad: parts.grad, partials },
        { channels, pairs, first, length: rows, steps },
        [Math.ceil(channels / CHANNELS), Math.ceil(pairs / LANES), blocks],
      );
      addPartialSums(backend, partials, sums);
    });
    addGradients(backend, { of: "kernel", discrete, sums, grads: gradInputs });
  });
}

const s4dKernelForward: KernelFamily<Record<string, never>> = defineKernel("s4dKernel", [{}], () => ({
  buffers: { discrete: "read u32", kernel: "write f32" },
  params: ["channels", "pairs", "first", "length"],
  body: /* wgsl */ `${DISCRETE}
@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let channel = group.x * ${CHANNELS}u + thread % ${CHANNELS}u;
  let start = (group.y * ${LANES}u + thread / ${CHANNELS}u) * ${STEPS}u;
  if (channel >= params.channels || start >= params.length) { return; }
  var sums: array<f32, ${STEPS}>;
  for (var pair = 0u; pair < params.pairs; pair++) {
    let weight = 2.0 * times(complex_of(OF_C, pair, channel), complex_of(B_BAR, pair, channel));
    let a_bar = complex_of(A_BAR, pair, channel);
    var value = times(weight, power(pair, channel, params.first + start));
    for (var i = 0u; i < ${STEPS}u; i++) {
      sums[i] += value.x;
      value = times(value, a_bar);
    }
  }
  for (var i = 0u; i < ${STEPS}u; i++) {
    let step = start + i;
    if (step < params.length) { kernel[params.kernel_at + step * params.kernel_stride + channel] = sums[i]; }
  }
}`,
}));

const s4dKernelSums: KernelFamily<Record<string, never>> = defineKernel("s4dKernelSums", [{}], () => ({
  buffers: { discrete: "read u32", grad: "read f32", partials: "write f32" },
  params: ["channels", "pairs", "first", "length", "steps"],
  body: /* wgsl */ `${DISCRETE}
@compute @workgroup_size(${CHANNELS * LANES})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let channel = group.x * ${CHANNELS}u + thread % ${CHANNELS}u;
  let pair = group.y * ${LANES}u + thread / ${CHANNELS}u;
  if (channel >= params.channels || pair >= params.pairs) { return; }
  let a_bar = complex_of(A_BAR, pair, channel);
  var s0 = vec2f(0);
  var s1 = vec2f(0);
  let end = min(params.length, (group.z + 1u) * params.steps);
  for (var start = group.z * params.steps; start < end; start += ${STEPS}u) {
    var local0 = vec2f(0);
    var local1 = vec2f(0);
    var value = vec2f(1, 0);
    for (var i = 0u; i < ${STEPS}u; i++) {
      let step = min(start + i, end - 1u);
      let g = select(0.0, grad[params.grad_at + step * params.grad_stride + channel], start + i < end);
      local0 += g * value;
      local1 += (f32(i) * g) * value;
      value = times(value, a_bar);
    }
    let begin = power(pair, channel, params.first + start);
    s0 += times(begin, local0);
    s1 += times(begin, f32(params.first + start) * local0 + local1);
  }
  let plane = params.pairs * params.channels;
  let to = params.partials_at + group.z * params.partials_stride + pair * params.channels + channel;
  partials[to] = s0.x;
  partials[to + plane] = s0.y;
  partials[to + 2u * plane] = s1.x;
  partials[to + 3u * plane] = s1.y;
}`,
}));
