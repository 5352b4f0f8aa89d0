// AdamW with gradient clipping, over the parameters of a model, and its state in a file.
// Source: Loshchilov & Hutter 2019, Alg. 2, as torch.optim.AdamW and torch.nn.utils.clip_grad_norm_ compute it.
import { CheckpointError, ConfigError } from "../core/errors.ts";
import { formatShape, isSameShape, sizeOf } from "../core/shape.ts";
import type { TensorReader, TensorToWrite } from "../io/index.ts";
import type { LossScaling, UpdateReport, Updates, UpdateState } from "../ops/adamw/updates.ts";
import { createUpdates } from "../ops/adamw/updates.ts";
import type { Parameter } from "../tensor/parameter.ts";
import { keep } from "../tensor/scope.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { zeros } from "../tensor/tensor.ts";

/** AdamW's recipe (the paper's: beta 0.9 and 0.95, decay 0.1, clip 1). */
export interface AdamWOptions {
  /** Share of a weight that decays per step, times the learning rate; where `parameter.decays`. Default 0.1. */
  readonly weightDecay?: number | undefined;
  /** Memory of the mean of gradients. Default 0.9. */
  readonly beta1?: number | undefined;
  /** Memory of the mean of squared gradients. Default 0.95. */
  readonly beta2?: number | undefined;
  /** Default 1e-8. */
  readonly eps?: number | undefined;
  /** Largest norm of all gradients together; longer ones are scaled down to it. Infinity: none. Default 1. */
  readonly clip?: number | undefined;
}

/** AdamWOptions with the defaults filled in. */
export type ResolvedAdamW = { readonly [K in keyof AdamWOptions]-?: number };

interface Moments {
  readonly parameter: Parameter;
  readonly m: Tensor;
  readonly v: Tensor;
}

/** The optimizer of a run. Owns two float32 tensors a parameter (dispose of it), which live outside of all scopes. */
export class AdamW {
  readonly options: ResolvedAdamW;
  readonly #moments = new Map<string, Moments>();
  readonly #updates: Updates | undefined;

  /**
   * @param scaling how the factor of the loss is found, for gradients in float16 (webgpu); without it losses are as they are
   * @throws ConfigError for options out of range, and for packed or quantised weights
   */
  constructor(parameters: ReadonlyMap<string, Parameter>, options: AdamWOptions = {}, scaling?: LossScaling) {
    this.options = resolveAdamW(options);
    for (const [name, parameter] of parameters) {
      const { backend, format } = parameter.tensor;
      if (format !== "rows")
        throw new ConfigError(
          `train: ${name} is packed (${format}), and packed weights cannot be trained. Load the model with trainable: true.`,
        );
      this.#moments.set(name, {
        parameter,
        m: keep(zeros(backend, parameter.shape)),
        v: keep(zeros(backend, parameter.shape)),
      });
    }
    const [first] = parameters.values();
    this.#updates = first && createUpdates(first.tensor.backend, scaling);
  }

  /** The factor that the loss must have in the backward pass; undefined where losses are not scaled. */
  get lossScale(): Tensor | undefined {
    return this.#updates?.lossScale;
  }

  /**
   * One update from the gradients of the parameters, then sets them to zero. With s = min(1, clip / (norm + 1e-6)) over
   * the loss scale, g = s·grad: p -= lr·weightDecay·p; m, v = means of g, g²; p -= lr · m̂ / (√v̂ + eps).
   * A parameter that no gradient has reached yet stays. When the norm is not finite, nothing changes but the gradients
   * and the loss scale. Waits for nothing; {@link report} tells what was found.
   */
  step(learningRate: number): void {
    const { weightDecay, ...options } = this.options;
    const reached = [...this.#moments.values()].filter(({ parameter }) => parameter.grad);
    const items = reached.map(({ parameter, m, v }) => ({
      tensors: { parameter: parameter.tensor, grad: parameter.grad!, m, v },
      weightDecay: parameter.decays ? weightDecay : 0,
    }));
    this.#updates?.run(items, { learningRate, ...options });
    for (const { parameter } of reached) {
      parameter.markChanged();
      parameter.clearGrad();
    }
  }

  /** What the last {@link step} found: the norm of all gradients together, before clipping, and the number of updates. */
  async report(): Promise<UpdateReport> {
    return (await this.#updates?.report()) ?? { steps: 0, norm: 0, isFinite: true, lossScale: 1, goodSteps: 0 };
  }

  /** Its state for a safetensors file: `m.<name>`, `v.<name>`. Metadata: {@link metadata}. */
  toTensors(): TensorToWrite[] {
    const tensors: TensorToWrite[] = [];
    for (const [name, moments] of this.#moments)
      for (const key of ["m", "v"] as const) {
        const tensor = moments[key];
        tensors.push({ name: `${key}.${name}`, dtype: "F32", shape: tensor.shape, data: () => tensor.read() });
      }
    return tensors;
  }

  /** Goes into the file beside {@link toTensors}. */
  async metadata(): Promise<Record<string, string>> {
    const { steps, lossScale, goodSteps } = await this.report();
    const scaling = this.lossScale ? { loss_scale: String(lossScale), good_steps: String(goodSteps) } : {};
    return { what: "mamba.ts AdamW", step: String(steps), ...scaling };
  }

  /**
   * Continues from a file of {@link toTensors}; exact where the device computes in float32.
   * @throws CheckpointError when a tensor is missing, extra or of another shape, or holds what is no finite number
   */
  async load(reader: TensorReader, where: string): Promise<void> {
    const state = readState(reader.metadata, where);
    if (reader.tensors.size !== 2 * this.#moments.size)
      throw new CheckpointError(
        `${where}: must hold ${2 * this.#moments.size} tensors for this model, got ${reader.tensors.size}. Does it belong to these weights?`,
      );
    for (const [name, { m, v }] of this.#moments) {
      await loadTensor(reader, `m.${name}`, m, where);
      await loadTensor(reader, `v.${name}`, v, where);
    }
    this.#updates?.restore(state);
  }

  dispose(): void {
    this.#updates?.dispose();
    for (const { m, v } of this.#moments.values()) {
      m.dispose();
      v.dispose();
    }
    this.#moments.clear();
  }
}

function readState(metadata: Readonly<Record<string, string>>, where: string): UpdateState {
  const { step, loss_scale = "1", good_steps = "0" } = metadata;
  const [steps, lossScale, goodSteps] = [Number(step), Number(loss_scale), Number(good_steps)];
  if (!(Number.isSafeInteger(steps) && steps >= 0))
    throw new CheckpointError(
      `${where}: its metadata must hold the number of steps, got ${JSON.stringify(step)}. Is it an optimizer's file?`,
    );
  if (!(lossScale > 0 && lossScale < Infinity && Number.isSafeInteger(goodSteps) && goodSteps >= 0))
    throw new CheckpointError(
      `${where}: its metadata holds a loss scale of ${JSON.stringify(loss_scale)} since ${JSON.stringify(good_steps)} steps. The file is damaged.`,
    );
  return { steps, lossScale, goodSteps };
}

async function loadTensor(reader: TensorReader, name: string, tensor: Tensor, where: string): Promise<void> {
  const info = reader.tensors.get(name);
  if (!info || !isSameShape(info.shape, tensor.shape))
    throw new CheckpointError(
      `${where}: ${name} must be ${formatShape(tensor.shape)} for this model, got ${info ? formatShape(info.shape) : "nothing"}. Does it belong to these weights?`,
    );
  const data = new Float32Array(sizeOf(tensor.shape));
  await reader.readFloat32(name, data);
  if (!data.every(Number.isFinite))
    throw new CheckpointError(`${where}: ${name} holds what is no finite number. The file is damaged.`);
  tensor.write(data);
}

/** Fills in the defaults. Throws ConfigError with the field, its rule and what came. */
export function resolveAdamW(options: AdamWOptions): ResolvedAdamW {
  const { weightDecay = 0.1, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, clip = 1 } = options;
  const rules: [string, number, boolean, string][] = [
    ["weightDecay", weightDecay, weightDecay >= 0 && weightDecay < Infinity, "be 0 or more"],
    ["beta1", beta1, beta1 >= 0 && beta1 < 1, "lie in [0, 1)"],
    ["beta2", beta2, beta2 >= 0 && beta2 < 1, "lie in [0, 1)"],
    ["eps", eps, eps > 0 && eps < Infinity, "be positive"],
    ["clip", clip, clip > 0, "be positive (Infinity for no clipping)"],
  ];
  for (const [field, value, isGood, rule] of rules)
    if (!isGood) throw new ConfigError(`train: ${field} must ${rule}, got ${value}.`);
  return { weightDecay, beta1, beta2, eps, clip };
}
