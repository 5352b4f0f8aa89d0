// rmsNorm against the reference and central differences; the same bits for any batch and any number of threads.
import { expect, it } from "vitest";
import { reference, wasmBackend } from "../../../test/support/backends.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { createRandom } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { rmsNorm } from "./index.ts";

const shapes = [
  [3, 5],
  [2, 3, 16],
  [5, 37],
  [70, 130],
];
const shapeCases = shapes.map((shape) => ({
  name: `[${shape.join(", ")}]`,
  inputs: { x: { shape }, weight: { shape: [shape.at(-1)!] } },
  options: {},
}));
testOp(rmsNorm, [
  ...shapeCases,
  {
    name: "one column",
    inputs: { x: { shape: [2, 1] }, weight: { shape: [1] } },
    options: { eps: 0.5 },
  },
  {
    name: "a view of columns, large eps",
    inputs: { x: { shape: [2, 4, 23], extraColumns: 6 }, weight: { shape: [23] } },
    options: { eps: 0.5 },
  },
]);

testOpOnGpu(
  rmsNorm,
  [
    ...shapeCases.slice(-1),
    { name: "float32 from any", inputs: { x: { shape: [9, 24] }, weight: { shape: [24] } }, options: { dtype: "f32" } },
    {
      name: "wide rows, views of whole vectors",
      inputs: { x: { shape: [5, 388], extraColumns: 24 }, weight: { shape: [388] } },
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
  const all = rmsNorm({ x: tensorFrom(backend, values, [ROWS, WIDTH]), weight }, {}).y.readNow();
  for (const row of [0, 1, 313, ROWS - 1]) {
    const x = tensorFrom(backend, values.slice(row * WIDTH, (row + 1) * WIDTH), [1, WIDTH]);
    expect(rmsNorm({ x, weight }, {}).y.readNow()).toEqual(all.slice(row * WIDTH, (row + 1) * WIDTH));
  }
});

it("has gradients with the same bits for 1, 2 and 3 threads", async () => {
  const runs = [];
  for (const threads of [1, 2, 3]) {
    const backend = await wasmBackend("relaxed", threads);
    const x = tensorFrom(backend, values, [ROWS, WIDTH]);
    const weight = tensorFrom(backend, weights, [WIDTH]);
    x.requiresGrad = weight.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => rmsNorm({ x, weight }, {}));
    tape.backward(y, tensorFrom(backend, values.toReversed(), [ROWS, WIDTH]));
    runs.push([tape.gradOf(x)!.readNow(), tape.gradOf(weight)!.readNow()]);
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
});

it("gives zeros for a row of zeros, and NaN for one with a NaN", async () => {
  for (const backend of [reference, await wasmBackend()]) {
    const weight = tensorFrom(backend, [1, 2, 3], [3]);
    expect([...rmsNorm({ x: zeros(backend, [1, 3]), weight }, {}).y.readNow()]).toEqual([0, 0, 0]);
    const x = tensorFrom(backend, [1, NaN, 2, 1, 1, 1], [2, 3]);
    const y = [...rmsNorm({ x, weight }, {}).y.readNow()];
    expect(y.slice(0, 3)).toEqual([NaN, NaN, NaN]);
    expect(y[3]).toBeCloseTo(1, 4);
  }
});

it("names both shapes when the weight does not fit", () => {
  const x = zeros(reference, [2, 4]);
  expect(() => rmsNorm({ x, weight: zeros(reference, [3]) }, {})).toThrow(
    "rmsNorm: x must be [..., width] and weight [width], got [2, 4] and [3].",
  );
});
