// expandRows against the reference and central differences; float16 results of a float32 row.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, onGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { expandRows } from "./index.ts";

const manyRows = { name: "many rows", inputs: { row: { shape: [24] } }, options: { shape: [3, 130] } };

testOp(expandRows, [
  { name: "[5] to [2, 3, 5]", inputs: { row: { shape: [5] } }, options: { shape: [2, 3] } },
  { name: "[1] to [4, 1]", inputs: { row: { shape: [1] } }, options: { shape: [4] } },
  { name: "no further axes", inputs: { row: { shape: [3] } }, options: { shape: [] } },
  { name: "a view", inputs: { row: { shape: [7], extraColumns: 5 } }, options: { shape: [2, 9] } },
  manyRows,
]);
testOpOnGpu(expandRows, [manyRows]);

it.skipIf(!hasGpu)(onGpu("makes float16 of a float32 row, and float32 sums of float16 gradients"), async () => {
  const backend = await gpuBackend();
  if (!backend.has("shader-f16")) return;
  const values = [0.5, -2, 3, 0.25];
  const row = tensorFrom(backend, values, [4]);
  row.requiresGrad = true;
  const tape = new Tape();
  const { y } = tape.record(() => expandRows({ row }, { shape: [2, 3], dtype: "f16" }));
  expect(y.dtype).toBe("f16");
  expect(Array.from(await y.read())).toEqual(Array.from({ length: 6 }, () => values).flat());
  const grads = Array.from({ length: 24 }, (_, i) => i / 8);
  tape.backward(y, tensorFrom(backend, grads, [2, 3, 4], "f16"));
  const sums = values.map((_, j) => grads.filter((_, i) => i % 4 === j).reduce((sum, grad) => sum + grad));
  expectClose("grad.row", await tape.gradOf(row)!.readNative(), sums, 1e-6);
});

it("has a gradient with the same bits for 1, 2 and 3 threads", async () => {
  const grads = Array.from({ length: 700 * 37 }, (_, i) => Math.sin(i));
  const runs = [];
  for (const threads of [1, 2, 3]) {
    const backend = await wasmBackend("relaxed", threads);
    const row = zeros(backend, [37]);
    row.requiresGrad = true;
    const tape = new Tape();
    const { y } = tape.record(() => expandRows({ row }, { shape: [700] }));
    tape.backward(y, tensorFrom(backend, grads, [700, 37]));
    runs.push(tape.gradOf(row)!.readNow());
  }
  expect(runs[1]).toEqual(runs[0]);
  expect(runs[2]).toEqual(runs[0]);
});

it("says what is wrong", () => {
  expect(() => expandRows({ row: zeros(reference, [2, 3]) }, { shape: [2] })).toThrow(
    "expandRows: row must be a vector [columns], got [2, 3].",
  );
  expect(() => expandRows({ row: zeros(reference, [2]) }, { shape: [2, 0] })).toThrow(
    "expandRows: shape must hold whole numbers of at least 1, got [2, 0].",
  );
});
