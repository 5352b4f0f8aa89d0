// layerNorm against the reference and central differences; the same bits for any batch and any number of threads.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { createRandom } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { layerNorm } from "./index.ts";

const shapes = [
  [3, 5],
  [2, 3, 16],
  [5, 37],
  [70, 130],
];
const shapeCases = shapes.map((shape) => ({
  name: `[${shape.join(", ")}]`,
  inputs: { x: { shape }, weight: { shape: [shape.at(-1)!] }, bias: { shape: [shape.at(-1)!] } },
  options: {},
}));
testOp(layerNorm, [
  ...shapeCases,
  {
    name: "one column",
    inputs: { x: { shape: [2, 1] }, weight: { shape: [1] }, bias: { shape: [1] } },
    options: { eps: 0.5 },
  },
  {
    name: "a view of columns, large eps",
    inputs: { x: { shape: [2, 4, 23], extraColumns: 6 }, weight: { shape: [23] }, bias: { shape: [23] } },
    options: { eps: 0.5 },
  },
]);

testOpOnGpu(
  layerNorm,
  [
    ...shapeCases.slice(-1),
    {
      name: "float32 from any",
      inputs: { x: { shape: [9, 24] }, weight: { shape: [24] }, bias: { shape: [24] } },
      options: { dtype: "f32" },
    },
    {
      name: "wide rows, views of whole vectors",
      inputs: { x: { shape: [5, 388], extraColumns: 24 }, weight: { shape: [388] }, bias: { shape: [388] } },
      options: {},
    },
  ],
  { halves: ["x"], usesSubgroups: true },
);

const WIDTH = 101;
const ROWS = 700;
const random = createRandom(3);
const values = Array.from({ length: ROWS * WIDTH }, () => random.normal());
const weights = Array.from({ length: WIDTH }, () => random.normal());

it("has the same bits for a row alone and among others", async () => {
  const backend = await wasmBackend("relaxed", 2);
  const weight = tensorFrom(backend, weights, [WIDTH]);
  const bias = tensorFrom(backend, weights.toReversed(), [WIDTH]);
  const all = layerNorm({ x: tensorFrom(backend, values, [ROWS, WIDTH]), weight, bias }, {}).y.readNow();
  for (const row of [0, 1, 313, ROWS - 1]) {
    const x = tensorFrom(backend, values.slice(row * WIDTH, (row + 1) * WIDTH), [1, WIDTH]);
    expect(layerNorm({ x, weight, bias }, {}).y.readNow()).toEqual(all.slice(row * WIDTH, (row + 1) * WIDTH));
  }
});

it("has gradients with the same bits for 1, 2 and 3 threads", async () => {
  const runs = [];
  for (const threads of [1, 2, 3]) {
    const backend = await wasmBackend("relaxed", threads);
    const x = tensorFrom(backend, values, [ROWS, WIDTH]);
    const weight = tensorFrom(backend, weights, [WIDTH]);
    const bias = tensorFrom(backend, weights.toReversed(), [WIDTH]);
    x.requiresGrad = weight.requiresGrad = bias.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => layerNorm({ x, weight, bias }, {}));
    tape.backward(y, tensorFrom(backend, values.toReversed(), [ROWS, WIDTH]));
    runs.push([tape.gradOf(x)!.readNow(), tape.gradOf(weight)!.readNow(), tape.gradOf(bias)!.readNow()]);
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
});

it("gives the bias for a row of equal numbers, and NaN for one with a NaN", async () => {
  for (const backend of [reference, await wasmBackend()]) {
    const weight = tensorFrom(backend, [1, 2, 3], [3]);
    const bias = tensorFrom(backend, [4, 5, 6], [3]);
    expect([...layerNorm({ x: tensorFrom(backend, [7, 7, 7], [1, 3]), weight, bias }, {}).y.readNow()]).toEqual([
      4, 5, 6,
    ]);
    const x = tensorFrom(backend, [1, NaN, 2, 1, 1, 1], [2, 3]);
    const y = [...layerNorm({ x, weight, bias }, {}).y.readNow()];
    expect(y).toEqual([NaN, NaN, NaN, 4, 5, 6]);
  }
});

it("keeps its digits where the mean is large", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend(), ...gpus]) {
    const [weight, bias] = [tensorFrom(backend, [1, 1, 1, 1], [4]), zeros(backend, [4])];
    const x = tensorFrom(backend, [4095, 4096, 4097, 4096], [1, 4]);
    const y = await layerNorm({ x, weight, bias }, { eps: 0 }).y.readNative();
    expectClose("y", y, [-Math.SQRT2, 0, Math.SQRT2, 0], 1e-6);
  }
});

it("names the shapes when weight or bias do not fit", () => {
  const x = zeros(reference, [2, 4]);
  const [weight, bias] = [zeros(reference, [4]), zeros(reference, [3])];
  expect(() => layerNorm({ x, weight, bias }, {})).toThrow(
    "layerNorm: x must be [..., width], weight and bias [width], got [2, 4], [4] and [3].",
  );
});
