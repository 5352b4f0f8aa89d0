// adamwStep and scaleInPlace on the WebGPU backend; and the kernel that decides, on the device, how a step is taken.
// Source: Loshchilov & Hutter 2019, Alg. 2; loss scaling: Micikevicius et al. 2018, "Mixed Precision Training", 3.2.
import type { KernelFamily, WebGpuBackend } from "../../backends/webgpu/index.ts";
import { defineKernel, groupsFor } from "../../backends/webgpu/index.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { SUM_PARTIALS } from "../sum-squares/webgpu.ts";
import type { VectorWidth } from "../webgpu-elements.ts";
import { dispatchElements, elementsHeader, floatsOf, splitRows, vectorType, WORKGROUP } from "../webgpu-elements.ts";
import type { AdamWOptions, AdamWTensors } from "./index.ts";

/** What a control tensor `[size, 1]` holds, in this order; the first three are the state of a run. */
const CONTROL = [
  /** What the loss is multiplied by before the backward pass. */
  "loss_scale",
  /** Steps since the scale last changed. */
  "good_steps",
  /** Updates made. */
  "steps",
  /** Whether the last gradients were all finite: 1 or 0. Nothing is updated where they were not. */
  "is_finite",
  /** Norm of the last gradients, without the scale. */
  "norm",
  /** What gradients are multiplied by: clipping over scale. */
  "grad_scale",
  "learning_rate",
  /** learning rate / (1 - beta1^steps) */
  "step_size",
  /** 1 / sqrt(1 - beta2^steps) */
  "inverse_root",
] as const;

type Control = Record<(typeof CONTROL)[number], number>;

/** Elements of a control tensor. */
export const CONTROL_SIZE: number = CONTROL.length;

/** A control tensor's numbers by name, as it is read. */
export function controlFrom(data: ArrayLike<number>): Control {
  return Object.fromEntries(CONTROL.map((name, i) => [name, data[i]])) as Control;
}

/** The numbers of a control tensor; 0 where nothing is given. */
export function controlData(control: Partial<Control>): Float32Array {
  return Float32Array.from(CONTROL, (name) => control[name] ?? 0);
}

export function adamwStep(tensors: AdamWTensors, options: Required<AdamWOptions>, backend: WebGpuBackend): void {
  const { learningRate, step, beta1, beta2, gradScale } = options;
  const data = controlData({
    is_finite: 1,
    grad_scale: gradScale,
    learning_rate: learningRate,
    step_size: learningRate / (1 - beta1 ** step),
    inverse_root: 1 / Math.sqrt(1 - beta2 ** step),
  });
  const control = tensorFrom(backend, data, [CONTROL_SIZE, 1]);
  updateByControl(tensors, control, options, backend);
  control.dispose();
}

/** What {@link updateByControl} takes from the host: it stays the same in all steps. */
export type FixedOptions = Required<Pick<AdamWOptions, "beta1" | "beta2" | "eps" | "weightDecay">>;

/** One step of one parameter, with what the control tensor says; nothing where it says that gradients were not finite. */
export function updateByControl(
  { parameter, grad, m, v }: AdamWTensors,
  control: Tensor,
  { beta1, beta2, eps, weightDecay }: FixedOptions,
  backend: WebGpuBackend,
): void {
  const fixed = { beta1, rest1: 1 - beta1, beta2, rest2: 1 - beta2, eps, decay: weightDecay };
  splitRows(backend, { parameter, grad, m, v }, (parts) => {
    const { size } = parts.parameter;
    const isAligned = size % 4 === 0 && Object.values(parts).every(({ offset }) => offset % 4 === 0);
    const width = isAligned ? 4 : 1;
    const vectors = size / width;
    const groups = groupsFor(vectors, WORKGROUP);
    backend.dispatch(adamw({ width }), { ...parts, control }, { ...fixed, vectors }, groups);
  });
}

const adamw: KernelFamily<{ width: VectorWidth }> = defineKernel<{ width: VectorWidth }>(
  "adamw",
  [{ width: 1 }, { width: 4 }],
  ({ width }) => {
    const lanes = vectorType("f32", width);
    return {
      buffers: {
        parameter: `add ${lanes}`,
        grad: `read ${lanes}`,
        m: `add ${lanes}`,
        v: `add ${lanes}`,
        control: "read f32",
      },
      params: ["vectors", "beta1: f32", "rest1: f32", "beta2: f32", "rest2: f32", "eps: f32", "decay: f32"],
      body: /* wgsl */ `
${floatsOf(width)}
${controlConstants()}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let i = (group.x + group.y * groups.x) * ${WORKGROUP}u + thread;
  let c = params.control_at;
  if (i >= params.vectors || control[c + IS_FINITE] == 0.0) { return; }
  let at = params.parameter_at / WIDTH + i;
  let m_i = params.m_at / WIDTH + i;
  let v_i = params.v_at / WIDTH + i;
  let g = control[c + GRAD_SCALE] * grad[params.grad_at / WIDTH + i];
  let mean = params.beta1 * m[m_i] + params.rest1 * g;
  let square = params.beta2 * v[v_i] + params.rest2 * g * g;
  let step = control[c + STEP_SIZE] * mean / (sqrt(square) * control[c + INVERSE_ROOT] + params.eps);
  let p = parameter[at];
  m[m_i] = mean;
  v[v_i] = square;
  // Decay and step in one subtraction: 1 - lr * decay is so near to 1 that rounding it would change the decay.
  parameter[at] = p - (control[c + LEARNING_RATE] * params.decay * p + step);
}`,
    };
  },
);

/** How the factor of the loss is found; `growthSteps` 0: it stays. */
export interface ScaleRule {
  readonly growthSteps: number;
  readonly least: number;
  readonly most: number;
}

/**
 * Decides a step from the sums of blocks of squared gradients: norm, whether it is finite, clipping, corrections of the
 * means, and the next loss scale (half of it after an overflow, twice after `growthSteps` good steps).
 */
export function decideStep(
  partials: Tensor,
  control: Tensor,
  { learningRate, beta1, beta2, clip }: { learningRate: number; beta1: number; beta2: number; clip: number },
  { growthSteps, least, most }: ScaleRule,
  backend: WebGpuBackend,
): void {
  const params = {
    count: partials.rows,
    learning_rate: learningRate,
    log_beta1: Math.max(Math.log(beta1), -1e30),
    log_beta2: Math.max(Math.log(beta2), -1e30),
    clip: Math.min(clip, 3e38),
    growth_steps: growthSteps,
    least_scale: least,
    most_scale: most,
  };
  backend.dispatch(decide({}), { partials, control }, params, [1]);
}

const decide: KernelFamily<{}> = defineKernel("adamwControl", [{}], () => ({
  buffers: { partials: "read f32", control: "add f32" },
  params: [
    "count",
    "learning_rate: f32",
    "log_beta1: f32",
    "log_beta2: f32",
    "clip: f32",
    "growth_steps: f32",
    "least_scale: f32",
    "most_scale: f32",
  ],
  body: /* wgsl */ `
// What PyTorch adds to the norm before it divides by it.
const CLIP_EPS = 1e-6;
${controlConstants()}
${SUM_PARTIALS}

// 1 - e^x for x <= 0, by its series where the difference would cancel.
fn one_minus_exp(x: f32) -> f32 {
  if (x < -0.5) { return 1.0 - exp(x); }
  var sum = 1.0;
  for (var k = 9.0; k > 1.0; k -= 1.0) { sum = 1.0 + x / k * sum; }
  return -x * sum;
}

// By its bits: a comparison may assume that there is no infinity.
fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(local_invocation_index) thread: u32) {
  let sum = sum_of_partials(thread);
  if (thread != 0u) { return; }
  let c = params.control_at;
  let scale = control[c + LOSS_SCALE];
  let norm = sqrt(sum) / scale;
  var good_steps = control[c + GOOD_STEPS];
  var next_scale = scale;
  control[c + NORM] = norm;
  if (is_finite(sum)) {
    let steps = control[c + STEPS] + 1.0;
    var clipped = 1.0;
    if (norm + CLIP_EPS > params.clip) { clipped = params.clip / (norm + CLIP_EPS); }
    control[c + IS_FINITE] = 1.0;
    control[c + STEPS] = steps;
    control[c + GRAD_SCALE] = clipped / scale;
    control[c + LEARNING_RATE] = params.learning_rate;
    control[c + STEP_SIZE] = params.learning_rate / one_minus_exp(steps * params.log_beta1);
    control[c + INVERSE_ROOT] = inverseSqrt(one_minus_exp(steps * params.log_beta2));
    good_steps += 1.0;
    if (good_steps == params.growth_steps) {
      next_scale = min(2.0 * scale, params.most_scale);
      good_steps = 0.0;
    }
  } else {
    control[c + IS_FINITE] = 0.0;
    if (params.growth_steps > 0.0) { next_scale = max(0.5 * scale, params.least_scale); }
    good_steps = 0.0;
  }
  control[c + LOSS_SCALE] = next_scale;
  control[c + GOOD_STEPS] = good_steps;
}`,
}));

/** Places in a control tensor, by name in capitals. */
function controlConstants(): string {
  return CONTROL.map((name, i) => `const ${name.toUpperCase()} = ${i}u;`).join("\n");
}

export function scaleInPlace(x: Tensor, factor: number, backend: WebGpuBackend): void {
  splitRows(backend, { x }, (parts) =>
    dispatchElements(backend, scale({}), parts, { like: parts.x, width: 1, params: { factor } }),
  );
}

const scale: KernelFamily<{}> = defineKernel("scaleInPlace", [{}], () => ({
  buffers: { x: "add f32" },
  params: ["factor: f32", "rows", "columns"],
  body: elementsHeader(
    1,
    /* wgsl */ `
  x[params.x_at + row * params.x_stride + column] *= params.factor;`,
  ),
}));
