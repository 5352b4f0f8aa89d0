// Updates on the devices whose memory is the host's (reference, wasm): the norm is a float64 number, known at once.
import { sumSquaresNow } from "../sum-squares/index.ts";
import { adamwStep } from "./index.ts";
import type { UpdateItem, UpdateOptions, UpdateReport, Updates, UpdateState } from "./updates.ts";

/** What PyTorch adds to the norm before it divides by it. */
const CLIP_EPS = 1e-6;

export class HostUpdates implements Updates {
  readonly lossScale = undefined;
  #steps = 0;
  #norm = 0;

  run(items: readonly UpdateItem[], { clip, ...options }: UpdateOptions): void {
    const norm = Math.sqrt(sumSquaresNow(items.map(({ tensors }) => tensors.grad)));
    this.#norm = norm;
    if (!Number.isFinite(norm)) return;
    this.#steps++;
    const gradScale = Math.min(1, clip / (norm + CLIP_EPS));
    for (const { tensors, weightDecay } of items)
      adamwStep(tensors, { ...options, weightDecay, gradScale, step: this.#steps });
  }

  report(): Promise<UpdateReport> {
    const isFinite = Number.isFinite(this.#norm);
    return Promise.resolve({ steps: this.#steps, norm: this.#norm, isFinite, lossScale: 1, goodSteps: 0 });
  }

  restore({ steps }: UpdateState): void {
    this.#steps = steps;
  }

  dispose(): void {
    // It holds no memory of the device.
  }
}
