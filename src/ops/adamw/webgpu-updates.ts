// Updates on a GPU: one small control tensor decides; the host only queues kernels and reads nothing.
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { keep } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import { sumBlocks } from "../sum-squares/webgpu.ts";
import type { LossScaling, UpdateItem, UpdateOptions, UpdateReport, Updates, UpdateState } from "./updates.ts";
import type { ScaleRule } from "./webgpu.ts";
import { CONTROL_SIZE, controlData, controlFrom, decideStep, updateByControl } from "./webgpu.ts";

const INITIAL_SCALE = 2 ** 16;
const GROWTH_STEPS = 1000;
/** Far beyond what float16 needs on either side, and far within float32. */
const LEAST_SCALE = 2 ** -16;
const MOST_SCALE = 2 ** 40;

export class WebGpuUpdates implements Updates {
  readonly lossScale: Tensor | undefined;
  readonly #backend: WebGpuBackend;
  readonly #control: Tensor;
  readonly #rule: ScaleRule;

  constructor(backend: WebGpuBackend, scaling?: LossScaling) {
    const { initial = INITIAL_SCALE, growthSteps = GROWTH_STEPS } = scaling ?? {};
    this.#backend = backend;
    this.#rule = { growthSteps: scaling ? growthSteps : 0, least: LEAST_SCALE, most: MOST_SCALE };
    const data = controlData({ loss_scale: scaling ? initial : 1 });
    this.#control = keep(tensorFrom(backend, data, [CONTROL_SIZE, 1]));
    this.lossScale = scaling && this.#control.rowsOf(0, 1).reshape([]);
  }

  run(items: readonly UpdateItem[], options: UpdateOptions): void {
    const { beta1, beta2, eps } = options;
    const partials = sumBlocks(
      items.map(({ tensors }) => tensors.grad),
      this.#backend,
    );
    decideStep(partials, this.#control, options, this.#rule, this.#backend);
    partials.dispose();
    for (const { tensors, weightDecay } of items)
      updateByControl(tensors, this.#control, { beta1, beta2, eps, weightDecay }, this.#backend);
  }

  async report(): Promise<UpdateReport> {
    const { steps, norm, is_finite, loss_scale, good_steps } = controlFrom(await this.#control.readNative());
    return { steps, norm, isFinite: is_finite === 1, lossScale: loss_scale, goodSteps: good_steps };
  }

  restore({ steps, lossScale, goodSteps }: UpdateState): void {
    this.#control.write(controlData({ steps, loss_scale: this.lossScale ? lossScale : 1, good_steps: goodSteps }));
  }

  dispose(): void {
    this.#control.dispose();
  }
}
