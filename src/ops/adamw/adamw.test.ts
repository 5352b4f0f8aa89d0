// adamwStep over 20 steps against a plain float64 loop, and scaleInPlace.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { adamwStep, scaleInPlace } from "./index.ts";

const STEPS = 20;
const OPTIONS = { learningRate: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 };

/** A gradient that depends on the parameter, so that errors would add up. */
const gradientOf = (p: number, i: number, step: number): number => Math.sin(3 * p + i) + 0.3 * Math.cos(i * step);
const clipOf = (step: number): number => 1 / (1 + (step % 4));

/** Every device there is. */
async function allBackends(): Promise<Backend[]> {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  return [reference, await wasmBackend("relaxed"), await wasmBackend("simd"), ...gpus];
}

function initial(count: number): number[] {
  const random = createRandom(9);
  return Array.from({ length: count }, () => Math.fround(random.normal()));
}

/** torch.optim.AdamW, one number at a time. */
function plainLoop(count: number): number[] {
  const { learningRate, beta1, beta2, eps, weightDecay } = OPTIONS;
  return initial(count).map((start, i) => {
    let [p, m, v] = [start, 0, 0];
    for (let t = 1; t <= STEPS; t++) {
      const g = gradientOf(p, i, t) * clipOf(t);
      p *= 1 - learningRate * weightDecay;
      m += (1 - beta1) * (g - m);
      v += (1 - beta2) * (g * g - v);
      p -= ((learningRate / (1 - beta1 ** t)) * m) / (Math.sqrt(v) / Math.sqrt(1 - beta2 ** t) + eps);
    }
    return p;
  });
}

async function withSteps(backend: Backend, count: number): Promise<number[]> {
  const parameter = tensorFrom(backend, initial(count), [count]);
  const [m, v] = [zeros(backend, [count]), zeros(backend, [count])];
  for (let step = 1; step <= STEPS; step++) {
    const values = [...(await parameter.readNative())].map((p, i) => gradientOf(p, i, step));
    const grad = tensorFrom(backend, values, [count]);
    adamwStep({ parameter, grad, m, v }, { ...OPTIONS, step, gradScale: clipOf(step) });
    grad.dispose();
  }
  return [...(await parameter.readNative())];
}

it.each([1, 3, 64, 1001, 20003])("takes 20 steps as a plain loop does: %i elements", async (count) => {
  const expected = plainLoop(count);
  expectClose("reference", await withSteps(reference, count), expected, 1e-13);
  const relaxed = await withSteps(await wasmBackend("relaxed", 2), count);
  expectClose("relaxed", relaxed, expected, 1e-6);
  expectClose("simd", await withSteps(await wasmBackend("simd", 1), count), expected, 1e-6);
  expect(await withSteps(await wasmBackend("relaxed", 1), count)).toEqual(relaxed);
  if (!hasGpu) return;
  expectClose("webgpu", await withSteps(await gpuBackend(), count), expected, 1e-6);
});

it("decays a weight without a gradient by lr · decay exactly enough, a thousand times", async () => {
  for (const backend of await allBackends()) {
    const parameter = tensorFrom(backend, [1, -2, 3, 4, 5], [5]);
    const [grad, m, v] = [zeros(backend, [5]), zeros(backend, [5]), zeros(backend, [5])];
    for (let step = 1; step <= 1000; step++) adamwStep({ parameter, grad, m, v }, { learningRate: 1e-4, step });
    expect(1 - (await parameter.readNative())[3] / 4).toBeCloseTo(1 - (1 - 1e-5) ** 1000, 3);
  }
});

it("writes nothing beyond its own elements", async () => {
  for (const backend of await allBackends()) {
    const all = tensorFrom(backend, [1, 2, 3, 4, 5, 6], [3, 2]);
    const [grad, m, v] = [tensorFrom(backend, [1, 1], [1, 2]), zeros(backend, [1, 2]), zeros(backend, [1, 2])];
    adamwStep({ parameter: all.entries(1, 1), grad, m, v }, { learningRate: 0.5, weightDecay: 0, step: 1 });
    const result = await all.readNative();
    expectClose("elements", result, [1, 2, 2.5, 3.5, 5, 6], 1e-7);
    expect([0, 1, 4, 5].map((i) => result[i])).toEqual([1, 2, 5, 6]);
  }
});

it("scales in place, views too", async () => {
  for (const backend of await allBackends()) {
    for (const count of [1, 5, 30001]) {
      const x = tensorFrom(backend, initial(count), [count]);
      scaleInPlace(x, 0.5);
      expect([...(await x.readNative())]).toEqual(initial(count).map((value) => value * 0.5));
    }
    const wide = tensorFrom(backend, [1, 2, 3, 4, 5, 6], [2, 3]);
    scaleInPlace(wide.columnsOf(1, 3), 10);
    expect([...(await wide.readNative())]).toEqual([1, 20, 30, 4, 50, 60]);
  }
});

it("says what is wrong", () => {
  const tensor = zeros(reference, [4]);
  const tensors = { parameter: tensor, grad: tensor, m: tensor, v: tensor };
  expect(() => adamwStep({ ...tensors, m: zeros(reference, [3]) }, { learningRate: 1, step: 1 })).toThrow(
    "adamwStep: m must be [4] with closed-up rows, got [3], rows 3 apart.",
  );
  expect(() => adamwStep(tensors, { learningRate: 1, step: 0 })).toThrow("step must be a whole number from 1, got 0");
  expect(() => scaleInPlace(zeros(reference, [2], "i32"), 2)).toThrow("x must be plain f32, got i32");
});
