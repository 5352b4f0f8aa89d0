// crossEntropy against the reference and central differences; ignored positions, padding, extremes, wrong targets.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { DataError } from "../../core/errors.ts";
import { createRandom } from "../../core/random.ts";
import type { Random } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { CrossEntropyOptions } from "./index.ts";
import { crossEntropy } from "./index.ts";

const targets = (shape: number[], vocab: number, ignored = 0, extraColumns?: number) => ({
  shape,
  dtype: "i32" as const,
  element: (random: Random) => (random.uniform() < ignored ? -100 : random.integer(vocab)),
  ...(extraColumns === undefined ? {} : { extraColumns }),
});

testOp(crossEntropy, [
  { name: "one row", inputs: { logits: { shape: [7] }, targets: targets([], 7) }, options: {} },
  { name: "a vocabulary of one", inputs: { logits: { shape: [2, 1] }, targets: targets([2], 1) }, options: {} },
  { name: "[2, 5, 13]", inputs: { logits: { shape: [2, 5, 13] }, targets: targets([2, 5], 13, 0.3) }, options: {} },
  {
    name: "views, the mean alone",
    inputs: { logits: { shape: [3, 4, 10], extraColumns: 5 }, targets: targets([3, 4], 10, 0.3, 1) },
    options: {},
    unused: ["losses"],
  },
  {
    name: "a padded vocabulary, the losses alone",
    inputs: { logits: { shape: [6, 24] }, targets: targets([6], 19) },
    options: { vocabSize: 19, ignoreIndex: 3 },
    unused: ["loss"],
  },
  {
    name: "several blocks, whose maxima rise",
    inputs: {
      logits: { shape: [3, 5003], element: (random, i) => random.normal() + (i % 5003) / 300 },
      targets: targets([3], 5003),
    },
    options: { checked: false },
  },
  { name: "many rows", inputs: { logits: { shape: [900, 30] }, targets: targets([900], 30, 0.1) }, options: {} },
]);

/** Every device there is. */
async function allBackends(): Promise<Backend[]> {
  const gpus = hasGpu ? [await gpuBackend(), await gpuBackend({ maxBindingBytes: 2048 })] : [];
  return [reference, await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus];
}

/** Loss, losses and gradient. */
async function run(
  backend: Backend,
  logits: number[],
  classes: number[],
  options: CrossEntropyOptions = {},
): Promise<number[][]> {
  const shape = [classes.length, logits.length / classes.length];
  const x = tensorFrom(backend, logits, shape);
  x.requiresGrad = true;
  const tape = new Tape();
  const { loss, losses } = tape.record(() =>
    crossEntropy({ logits: x, targets: tensorFrom(backend, classes, [classes.length], "i32") }, options),
  );
  tape.backward(loss);
  const all = [loss, losses, tape.gradOf(x)!].map(async (tensor) => [...(await tensor.readNative())]);
  return Promise.all(all);
}

it("is ln(vocabulary) for equal logits, and 0 with zero gradient when all positions are ignored", async () => {
  for (const backend of await allBackends()) {
    expect((await run(backend, [2, 2, 2, 2, 2, 2, 2, 2], [1, 3]))[0][0]).toBeCloseTo(Math.log(4), 6);
    const nothing = await run(backend, [NaN, 1, 2, 3], [-100, -100]);
    expect(nothing).toEqual([[0], [0, 0], [0, 0, 0, 0]]);
  }
});

it("holds for huge logits, masked logits, NaN and infinity", async () => {
  for (const backend of await allBackends()) {
    expect(await run(backend, [1e30, -1e30, 0], [0])).toEqual([[0], [0], [0, 0, 0]]);
    expect(await run(backend, [-Infinity, 4, -Infinity], [1])).toEqual([[0], [0], [0, 0, 0]]);
    expect((await run(backend, [-Infinity, 4, 1], [0]))[0]).toEqual([Infinity]);
    for (const bad of [NaN, Infinity]) {
      const [loss, losses, grad] = await run(backend, [1, bad, 0, 1, 2, 3], [0, 1]);
      expect(loss).toEqual([NaN]);
      expect(losses[0]).toBeNaN();
      expect(losses[1]).toBeCloseTo(1.4076, 4);
      expect(grad[1]).toBeNaN();
      expect(grad[3]).toBeCloseTo(0.5 * 0.09003, 4);
    }
  }
});

it("gives columns beyond vocabSize no part", async () => {
  for (const backend of await allBackends()) {
    const padded = await run(backend, [1, 2, NaN, 3, 4, 1e9], [0, 1], { vocabSize: 2 });
    const bare = await run(backend, [1, 2, 3, 4], [0, 1]);
    expect(padded.slice(0, 2)).toEqual(bare.slice(0, 2));
    const [a, b, c, d] = bare[2];
    expect(padded[2]).toEqual([a, b, 0, c, d, 0]);
  }
});

it("agrees with the reference on a vocabulary of 50280, and has the same bits for 1, 2 and 3 threads", async () => {
  const random = createRandom(5);
  const logits = Array.from({ length: 3 * 50280 }, () => Math.fround(4 * random.normal()));
  const expected = await run(reference, logits, [7, 50279, 0]);
  const runs = [];
  for (const threads of [1, 2, 3]) runs.push(await run(await wasmBackend("relaxed", threads), logits, [7, 50279, 0]));
  runs[0].forEach((actual, i) => expectClose(["loss", "losses", "grad.logits"][i], actual, expected[i], 2e-6));
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
  if (!hasGpu) return;
  const onGpu = await run(await gpuBackend(), logits, [7, 50279, 0]);
  onGpu.forEach((actual, i) => expectClose(["loss", "losses", "grad.logits"][i], actual, expected[i], 2e-6));
});

it("names a wrong target, and what targets, logits and vocabSize must be", async () => {
  for (const backend of await allBackends()) {
    await expect(run(backend, [1, 2, 3, 4], [0, 2])).rejects.toThrow(DataError);
    await expect(run(backend, [1, 2, 3, 4], [0, 2])).rejects.toThrow(
      "crossEntropy: target 2 at position [1] is outside of the vocabulary of 2: ids go from 0 to 1 (or -100, which is ignored).",
    );
    expect((await run(backend, [1, 2, 3, 4], [0, 2], { checked: false }))[0]).toEqual([NaN]);
  }
  const logits = zeros(reference, [2, 3]);
  expect(() => crossEntropy({ logits, targets: zeros(reference, [3], "i32") }, {})).toThrow(
    "crossEntropy: logits must be [..., vocabulary] and targets [...], got [2, 3] and [3].",
  );
  expect(() => crossEntropy({ logits, targets: zeros(reference, [2]) }, {})).toThrow("targets must be i32, got f32");
  expect(() => crossEntropy({ logits, targets: zeros(reference, [2], "i32") }, { vocabSize: 4 })).toThrow(
    "vocabSize must be a whole number from 1 to the logits' 3 columns, got 4",
  );
});
