// Updates on a GPU against those on the host: clipping, skipped updates, and a loss scale that finds its value.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { LossScaling, UpdateItem, UpdateReport } from "./updates.ts";
import { createUpdates } from "./updates.ts";

const SHAPES = [[300, 70], [64], [7]];
const OPTIONS = { learningRate: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8 };

function itemsOn(backend: Backend): UpdateItem[] {
  const random = createRandom(4);
  return SHAPES.map((shape, i) => {
    const data = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.fround(random.normal()));
    const [grad, m, v] = [zeros(backend, shape), zeros(backend, shape), zeros(backend, shape)];
    return { tensors: { parameter: tensorFrom(backend, data, shape), grad, m, v }, weightDecay: i === 0 ? 0.1 : 0 };
  });
}

/** Gradients of a step, times a factor. */
function writeGradients(items: readonly UpdateItem[], step: number, factor = 1): void {
  const random = createRandom(step);
  for (const { tensors } of items)
    tensors.grad.write(Float64Array.from({ length: tensors.grad.size }, () => factor * Math.fround(random.normal())));
}

it.skipIf(!hasGpu).each([{ clip: 1 }, { clip: 1e4 }, { clip: Infinity }])(
  "fifty updates on a GPU as on the reference: clip %j",
  async ({ clip }) => {
    const backends = [reference, await gpuBackend({ maxBindingBytes: 65536 })];
    const ends: ArrayLike<number>[][] = [];
    const reports: UpdateReport[] = [];
    for (const backend of backends) {
      const items = itemsOn(backend);
      const updates = createUpdates(backend);
      for (let step = 1; step <= 50; step++) {
        writeGradients(items, step);
        updates.run(items, { ...OPTIONS, clip });
      }
      ends.push(await Promise.all(items.map(({ tensors }) => tensors.parameter.readNative())));
      reports.push(await updates.report());
    }
    ends[0].forEach((expected, i) => expectClose(`parameter ${i}`, ends[1][i], expected, 1e-6));
    expect(reports[1]).toMatchObject({ steps: 50, isFinite: true, lossScale: 1 });
    expect(reports[1].norm / reports[0].norm).toBeCloseTo(1, 6);
  },
);

it.skipIf(!hasGpu)("scales the loss by what fits: halves it on an overflow, doubles it after good steps", async () => {
  const backend = await gpuBackend();
  const items = itemsOn(backend);
  const scaling: LossScaling = { initial: 1024, growthSteps: 3 };
  const updates = createUpdates(backend, scaling);
  const told: UpdateReport[] = [];
  for (let step = 1; step <= 9; step++) {
    const scale = (await updates.lossScale!.readNative())[0];
    writeGradients(items, 1, scale >= 1024 ? Infinity : scale);
    updates.run(items, { ...OPTIONS, clip: 1 });
    told.push(await updates.report());
  }
  const norm = told[1].norm;
  expect(told.map(({ lossScale }) => lossScale)).toEqual([512, 512, 512, 1024, 512, 512, 512, 1024, 512]);
  expect(told.map(({ steps }) => steps)).toEqual([0, 1, 2, 3, 3, 4, 5, 6, 6]);
  expect(told.map(({ isFinite }) => isFinite)).toEqual([0, 1, 1, 1, 0, 1, 1, 1, 0].map(Boolean));
  for (const report of told) if (report.isFinite) expect(report.norm).toBeCloseTo(norm, 3);

  // What six updates without scales give.
  const plain = itemsOn(reference);
  const host = createUpdates(reference);
  for (let step = 1; step <= 6; step++) {
    writeGradients(plain, 1);
    host.run(plain, { ...OPTIONS, clip: 1 });
  }
  for (const [i, { tensors }] of items.entries())
    expectClose(`parameter ${i}`, await tensors.parameter.readNative(), plain[i].tensors.parameter.readNow(), 1e-6);

  updates.restore({ steps: 6, lossScale: 2048, goodSteps: 2 });
  writeGradients(items, 1, 2048);
  updates.run(items, { ...OPTIONS, clip: 1 });
  expect(await updates.report()).toMatchObject({ steps: 7, lossScale: 4096, goodSteps: 0 });
});
