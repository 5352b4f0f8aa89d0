// multiply against the reference and central differences; both inputs in one tensor.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import type { HostArray } from "../../core/dtype.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { multiply } from "./index.ts";

const wide = {
  name: "views of whole vectors",
  inputs: { a: { shape: [2, 4, 8], extraColumns: 8 }, b: { shape: [2, 4, 8] } },
  options: {},
};
const manyRows = { name: "many rows", inputs: { a: { shape: [300, 33] }, b: { shape: [300, 33] } }, options: {} };

testOp(multiply, [
  { name: "[3, 5]", inputs: { a: { shape: [3, 5] }, b: { shape: [3, 5] } }, options: {} },
  {
    name: "views of columns",
    inputs: { a: { shape: [2, 4, 7], extraColumns: 5 }, b: { shape: [2, 4, 7], extraColumns: 2 } },
    options: {},
  },
  wide,
  manyRows,
]);
testOpOnGpu(multiply, [wide, manyRows], { halves: ["a", "b"] });

it("adds to gradients that are halves of one tensor, and to one that is both", async () => {
  const values = Array.from({ length: 3 * 8 }, (_, i) => Math.sin(i));
  const grads = async (backend: Backend, isOne: boolean): Promise<HostArray> => {
    const ab = tensorFrom(backend, values, [3, 8]);
    ab.requiresGrad = true;
    const a = ab.columnsOf(0, 4);
    const tape = new Tape();
    const { y } = tape.record(() => multiply({ a, b: isOne ? a : ab.columnsOf(4, 8) }, {}));
    tape.backward(y, tensorFrom(backend, values.slice(0, 12), [3, 4]));
    return tape.gradOf(ab)!.readNative();
  };
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const isOne of [false, true]) {
    const expected = await grads(reference, isOne);
    // The derivative of a², of the first element: 2 a grad.
    if (isOne) expect(expected[1]).toBeCloseTo(2 * values[1] * values[1], 12);
    for (const backend of [await wasmBackend(), ...gpus])
      expectClose("grad.ab", await grads(backend, isOne), expected, 1e-6);
  }
});

it("names both shapes when they differ", () => {
  const a = zeros(reference, [2]);
  expect(() => multiply({ a, b: zeros(reference, [1, 2]) }, {})).toThrow(
    "multiply: a and b must have the same shape, got [2] and [1, 2].",
  );
});
