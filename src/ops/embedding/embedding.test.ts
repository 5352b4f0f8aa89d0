// embedding against the reference and central differences; wrong ids; the same bits for any number of threads.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { DataError } from "../../core/errors.ts";
import type { Backend } from "../../backends/backend.ts";
import type { HostArray } from "../../core/dtype.ts";
import { createRandom } from "../../core/random.ts";
import type { Random } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { createPackedWeight, packWeight, unpackWeight } from "../linear/pack.ts";
import { embedding } from "./index.ts";

const ids = (shape: number[], vocab: number, extraColumns?: number) => ({
  shape,
  dtype: "i32" as const,
  element: (random: Random) => random.integer(vocab),
  ...(extraColumns === undefined ? {} : { extraColumns }),
});

testOp(embedding, [
  { name: "one id", inputs: { ids: ids([1, 1], 3), weight: { shape: [3, 5] } }, options: {} },
  { name: "ids repeat", inputs: { ids: ids([2, 9], 4), weight: { shape: [4, 7] } }, options: {} },
  { name: "a vector of ids", inputs: { ids: ids([6], 11), weight: { shape: [11, 33] } }, options: { checked: false } },
  {
    name: "a view of ids",
    inputs: { ids: ids([3, 5], 6, 2), weight: { shape: [6, 21], extraColumns: 3 } },
    options: {},
  },
  { name: "many", inputs: { ids: ids([4, 80], 50), weight: { shape: [50, 70] } }, options: {} },
]);

testOpOnGpu(embedding, [
  { name: "many", inputs: { ids: ids([4, 80], 50), weight: { shape: [50, 70] } }, options: {} },
  {
    name: "views, whole vectors, one id after all others",
    inputs: { ids: ids([60, 2], 2, 2), weight: { shape: [5, 24], extraColumns: 8 } },
    options: {},
  },
]);

it("names a wrong id, its position and the vocabulary", async () => {
  for (const backend of [reference, await wasmBackend()]) {
    const weight = zeros(backend, [5, 2]);
    const run = (data: number[]) => () => embedding({ ids: tensorFrom(backend, data, [2, 2], "i32"), weight }, {});
    expect(run([0, 1, 2, 5])).toThrow(DataError);
    expect(run([0, 1, 2, 5])).toThrow(
      "embedding: token id 5 at position [1, 1] is outside of the vocabulary of 5: ids go from 0 to 4.",
    );
    expect(run([0, -1, 2, 3])).toThrow("token id -1 at position [0, 1]");
  }
});

it("gives NaN for a wrong id that is not checked, and no gradient", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend(), ...gpus]) {
    const weight = tensorFrom(backend, [1, 2, 3, 4], [2, 2]);
    weight.requiresGrad = true;
    const wrong = tensorFrom(backend, [1, 2, -7], [3], "i32");
    const tape = new Tape();
    const { y } = tape.record(() => embedding({ ids: wrong, weight }, { checked: false }));
    expect([...(await y.readNative())]).toEqual([3, 4, NaN, NaN, NaN, NaN]);
    tape.backward(y, tensorFrom(backend, [1, 1, 1, 1, 1, 1], [3, 2]));
    expect([...(await tape.gradOf(weight)!.readNative())]).toEqual([0, 0, 1, 1]);
  }
});

it("runs in a plan, with ids that come later", async () => {
  const backend = await wasmBackend();
  const weight = tensorFrom(backend, [1, 2, 3, 4], [2, 2]);
  const later = zeros(backend, [1, 1], "i32");
  const y = zeros(backend, [1, 1, 2]);
  const plan = backend.capture(() => void embedding({ ids: later, weight }, { checked: false }, { y }));
  for (const [id, row] of [
    [1, [3, 4]],
    [0, [1, 2]],
  ] as const) {
    later.write(new Int32Array([id]));
    plan.run();
    expect([...y.readNow()]).toEqual(row);
  }
  plan.dispose();
});

it("has a gradient with the same bits for 1, 2 and 3 threads", async () => {
  const random = createRandom(4);
  const tokens = Array.from({ length: 900 }, () => random.integer(20));
  const seed = Array.from({ length: 900 * 67 }, () => random.normal());
  const runs = [];
  for (const threads of [1, 2, 3]) {
    const backend = await wasmBackend("relaxed", threads);
    const weight = zeros(backend, [20, 67]);
    weight.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => embedding({ ids: tensorFrom(backend, tokens, [3, 300], "i32"), weight }, {}));
    tape.backward(y, tensorFrom(backend, seed, [3, 300, 67]));
    runs.push(tape.gradOf(weight)!.readNow());
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
});

it("finds the rows of a packed weight", async () => {
  const random = createRandom(10);
  const values = Array.from({ length: 21 * 37 }, () => Math.fround(random.normal()));
  for (const backend of [reference, await wasmBackend("simd"), await wasmBackend("relaxed")]) {
    const weight = tensorFrom(backend, values, [21, 37]);
    const some = tensorFrom(backend, [20, 0, 7, 8, 8, 3], [2, 3], "i32").columnsOf(1, 3);
    for (const format of ["panels", "int8"] as const) {
      const packed = packWeight(weight, format);
      const expected = embedding({ ids: some, weight: unpackWeight(packed) }, {}).y.readNow();
      expect(embedding({ ids: some, weight: packed }, {}).y.readNow()).toEqual(expected);
      expect(expected[37]).toBeCloseTo(values[7 * 37], format === "int8" ? 1 : 6);
      const wrong = tensorFrom(backend, [21, 2], [2], "i32");
      expect(() => embedding({ ids: wrong, weight: packed }, {})).toThrow("token id 21 at position [0]");
      expect(embedding({ ids: wrong, weight: packed }, { checked: false }).y.readNow()[36]).toBeNaN();
    }
  }
});

it.skipIf(!hasGpu)("finds the rows of float16 and int8 weights on a GPU, and NaN for a wrong id", async () => {
  const random = createRandom(10);
  const values = Float32Array.from({ length: 21 * 36 }, () => random.normal());
  const backend = await gpuBackend();
  const ids = tensorFrom(backend, [20, 0, 7, 8, 21, 3], [2, 3], "i32").columnsOf(1, 3);
  const int8 = createPackedWeight(backend, [21, 36], "int8");
  int8.writeRows(0, values);
  const weights: [weight: Tensor, tolerance: number][] = [[int8.tensor, 0.01]];
  if (backend.has("shader-f16")) weights.push([tensorFrom(backend, values, [21, 36], "f16"), 1e-3]);
  for (const [weight, tolerance] of weights) {
    const y = await embedding({ ids, weight }, { checked: false }).y.readNative();
    for (const [i, id] of [0, 7].entries())
      expectClose(`row ${id}`, y.subarray(i * 36, (i + 1) * 36), values.subarray(id * 36, (id + 1) * 36), tolerance);
    expect(y[2 * 36]).toBeNaN();
    expectClose("row 3", y.subarray(3 * 36), values.subarray(3 * 36, 4 * 36), tolerance);
  }
});

it.skipIf(!hasGpu)("has a gradient with the same bits every time on a GPU, on top of what is there", async () => {
  const random = createRandom(4);
  const tokens = Array.from({ length: 300 }, () =>
    Math.min(random.integer(20), random.integer(20), random.integer(20)),
  );
  const seed = Float32Array.from({ length: 300 * 8 }, () => random.normal());
  const gradient = async (backend: Backend): Promise<HostArray> => {
    const weight = zeros(backend, [20, 8]);
    weight.requiresGrad = true;
    const ids = tensorFrom(backend, tokens, [300], "i32");
    const tape = new Tape();
    const outputs = tape.record(() => [embedding({ ids, weight }, {}).y, embedding({ ids, weight }, {}).y]);
    for (const y of outputs) tape.seed(y, tensorFrom(backend, seed, [300, 8]));
    tape.run();
    return tape.gradOf(weight)!.readNative();
  };
  const backend = await gpuBackend();
  const first = await gradient(backend);
  expect(await gradient(backend)).toEqual(first);
  expectClose("grad.weight", first, await gradient(reference), 1e-5);
});

it("says what ids and weight must be", () => {
  const weight = zeros(reference, [5, 2]);
  expect(() => embedding({ ids: zeros(reference, [2]), weight }, {})).toThrow("embedding: ids must be i32, got f32.");
  expect(() => embedding({ ids: zeros(reference, [2], "i32"), weight: zeros(reference, [5]) }, {})).toThrow(
    "embedding: weight must be [vocabSize, width], got [5].",
  );
});
