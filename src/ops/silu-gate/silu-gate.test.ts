// siluGate against the reference and central differences.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import type { HostArray } from "../../core/dtype.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { siluGate } from "./index.ts";

testOp(siluGate, [
  { name: "[1]", inputs: { x: { shape: [1] }, z: { shape: [1] } }, options: {} },
  { name: "[3, 5]", inputs: { x: { shape: [3, 5] }, z: { shape: [3, 5] } }, options: {} },
  {
    name: "views of columns",
    inputs: { x: { shape: [2, 4, 19], extraColumns: 4 }, z: { shape: [2, 4, 19], extraColumns: 1 } },
    options: {},
  },
  {
    name: "wide range",
    inputs: { x: { shape: [4, 18] }, z: { shape: [4, 18], element: (random) => 15 * random.normal() } },
    options: {},
  },
  { name: "many rows", inputs: { x: { shape: [130, 65] }, z: { shape: [130, 65] } }, options: {} },
]);

testOpOnGpu(
  siluGate,
  [
    { name: "many rows", inputs: { x: { shape: [130, 65] }, z: { shape: [130, 65] } }, options: {} },
    {
      name: "views of whole vectors",
      inputs: { x: { shape: [20, 24], extraColumns: 8 }, z: { shape: [20, 24], extraColumns: 16 } },
      options: {},
    },
  ],
  { halves: ["x", "z"] },
);

it("holds for large gates", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus]) {
    const x = tensorFrom(backend, [2, 2, 2], [3]);
    const y = await siluGate({ x, z: tensorFrom(backend, [1000, -1000, NaN], [3]) }, {}).y.readNative();
    expect(y[0]).toBe(2000);
    expect(y[1]).toBeCloseTo(0, 12);
    expect(y[2]).toBeNaN();
  }
});

it.each(["x", "z"] as const)("has the same gradient of %s when the other needs none", async (wanted) => {
  const backend = await wasmBackend();
  const values = Array.from({ length: 3 * 5 }, (_, i) => Math.sin(i));
  const gradOf = (names: readonly string[]): unknown => {
    const inputs = { x: tensorFrom(backend, values, [3, 5]), z: tensorFrom(backend, values.toReversed(), [3, 5]) };
    for (const name of ["x", "z"] as const) inputs[name].requiresGrad = names.includes(name);
    const tape = new Tape();
    tape.backward(tape.record(() => siluGate(inputs, {})).y, tensorFrom(backend, values, [3, 5]));
    return tape.gradOf(inputs[wanted])!.readNow();
  };
  expect(gradOf([wanted])).toEqual(gradOf(["x", "z"]));
});

it.skipIf(!hasGpu)("adds to gradients that are halves of one tensor, and to one that is both", async () => {
  const values = Array.from({ length: 3 * 8 }, (_, i) => Math.sin(i));
  const grads = async (backend: Backend, isOne: boolean): Promise<HostArray> => {
    const xz = tensorFrom(backend, values, [3, 8]);
    xz.requiresGrad = true;
    const x = xz.columnsOf(0, 4);
    const tape = new Tape();
    const { y } = tape.record(() => siluGate({ x, z: isOne ? x : xz.columnsOf(4, 8) }, {}));
    tape.backward(y, tensorFrom(backend, values.slice(0, 12), [3, 4]));
    return tape.gradOf(xz)!.readNative();
  };
  const backend = await gpuBackend();
  for (const isOne of [false, true])
    expectClose("grad.xz", await grads(backend, isOne), await grads(reference, isOne), 1e-5);
});

it("names both shapes when they differ", () => {
  const x = zeros(reference, [2]);
  expect(() => siluGate({ x, z: zeros(reference, [3]) }, {})).toThrow(
    "siluGate: x and z must have the same shape, got [2] and [3].",
  );
});
