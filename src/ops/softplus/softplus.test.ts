// softplus against the reference and central differences; extremes; the same bits for any number of threads.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { createRandom } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { softplus } from "./index.ts";

testOp(softplus, [
  { name: "no bias", inputs: { x: { shape: [3, 5] } }, options: {} },
  { name: "one", inputs: { x: { shape: [1] }, bias: { shape: [1] } }, options: {} },
  { name: "bias", inputs: { x: { shape: [2, 7, 18] }, bias: { shape: [18] } }, options: {} },
  { name: "a view of columns", inputs: { x: { shape: [4, 21], extraColumns: 3 }, bias: { shape: [21] } }, options: {} },
  {
    name: "wide range",
    inputs: { x: { shape: [5, 33], element: (random) => 12 * random.normal() }, bias: { shape: [33] } },
    options: {},
  },
  { name: "many rows", inputs: { x: { shape: [300, 31] }, bias: { shape: [31] } }, options: {} },
]);

testOpOnGpu(
  softplus,
  [
    { name: "many rows", inputs: { x: { shape: [300, 31] }, bias: { shape: [31] } }, options: {} },
    {
      name: "views of whole vectors",
      inputs: { x: { shape: [40, 24], extraColumns: 8 }, bias: { shape: [24] } },
      options: {},
    },
    { name: "no bias", inputs: { x: { shape: [3, 8] } }, options: {} },
  ],
  { halves: ["x"] },
);

it("neither overflows nor loses small values", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus]) {
    const x = tensorFrom(backend, [1000, 88, -40, -1000, NaN], [5]);
    const y = await softplus({ x }, {}).y.readNative();
    expect(y[0]).toBe(1000);
    expect(y[1]).toBe(88);
    expect(Math.abs(y[2] / Math.exp(-40) - 1)).toBeLessThan(1e-6);
    expect(y[3]).toBe(0);
    expect(y[4]).toBeNaN();
  }
});

it("has gradients with the same bits for 1, 2 and 3 threads", async () => {
  const random = createRandom(6);
  const values = Array.from({ length: 600 * 50 }, () => random.normal());
  const runs = [];
  for (const threads of [1, 2, 3]) {
    const backend = await wasmBackend("relaxed", threads);
    const x = tensorFrom(backend, values, [600, 50]);
    const bias = tensorFrom(backend, values.slice(0, 50), [50]);
    x.requiresGrad = bias.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => softplus({ x, bias }, {}));
    tape.backward(y, tensorFrom(backend, values.toReversed(), [600, 50]));
    runs.push([tape.gradOf(x)!.readNow(), tape.gradOf(bias)!.readNow()]);
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
});

it("has the same gradient of the bias when x needs none", async () => {
  const backend = await wasmBackend();
  const values = Array.from({ length: 3 * 5 }, (_, i) => Math.sin(i));
  const gradOfBias = (wantsX: boolean): unknown => {
    const inputs = { x: tensorFrom(backend, values, [3, 5]), bias: tensorFrom(backend, values.slice(0, 5), [5]) };
    inputs.x.requiresGrad = wantsX;
    inputs.bias.requiresGrad = true;
    const tape = new Tape();
    tape.backward(tape.record(() => softplus(inputs, {})).y, tensorFrom(backend, values, [3, 5]));
    return tape.gradOf(inputs.bias)!.readNow();
  };
  expect(gradOfBias(false)).toEqual(gradOfBias(true));
});

it("names both shapes when the bias does not fit", () => {
  const x = zeros(reference, [2, 4]);
  expect(() => softplus({ x, bias: zeros(reference, [2]) }, {})).toThrow(
    "softplus: x must be [..., channels] and bias [channels], got [2, 4] and [2].",
  );
});
