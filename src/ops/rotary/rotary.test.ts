// rotary against the reference and central differences, and the laws that it keeps.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { rotary } from "./index.ts";

const positions = { shape: [2], dtype: "i32", element: (_: unknown, index: number) => 1000 * index + 7 } as const;

testOp(rotary, [
  { name: "one pair", inputs: { x: { shape: [1, 3, 2] } }, options: { headDim: 2 } },
  { name: "whole heads", inputs: { x: { shape: [2, 5, 48] }, positions }, options: { headDim: 16 } },
  {
    name: "a part of each head",
    inputs: { x: { shape: [2, 7, 84], extraColumns: 4 }, positions },
    options: { headDim: 28, rotaryDim: 16, base: 500 },
  },
  {
    name: "heads of no whole vectors",
    inputs: { x: { shape: [2, 7, 30], extraColumns: 3 } },
    options: { headDim: 10, rotaryDim: 6 },
  },
  { name: "many rows", inputs: { x: { shape: [2, 130, 80] }, positions }, options: { headDim: 16 } },
]);

testOpOnGpu(
  rotary,
  [{ name: "many rows", inputs: { x: { shape: [2, 130, 80] }, positions }, options: { headDim: 16 } }],
  { halves: ["x"] },
);

it("holds at positions up to 2^20", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus])
    for (const first of [0, 12345, 2 ** 20 - 4]) {
      const turned = (on: typeof backend | typeof reference) =>
        rotary(
          {
            x: tensorFrom(on, new Float32Array(4 * 16).fill(1), [1, 4, 16]),
            positions: tensorFrom(on, [first], [1], "i32"),
          },
          { headDim: 16 },
        ).y.readNative();
      expectClose(`position ${first}`, await turned(backend), await turned(reference), 1e-6);
    }
});

it("leaves products of queries and keys to their distance alone", async () => {
  const backend = await wasmBackend();
  const values = Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * i));
  const at = (position: number): ArrayLike<number> =>
    rotary(
      { x: tensorFrom(backend, values, [1, 1, 64]), positions: tensorFrom(backend, [position], [1], "i32") },
      { headDim: 64 },
    ).y.readNow();
  const product = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
    Array.from(a).reduce((sum, value, i) => sum + value * b[i], 0);
  expect(product(at(5), at(0))).toBeCloseTo(product(at(100_005), at(100_000)), 4);
});

it("says which shapes and numbers do not fit", () => {
  const x = zeros(reference, [2, 3, 12]);
  expect(() => rotary({ x }, { headDim: 5 })).toThrow(
    "rotary: x must be [batch, length, heads · headDim] with headDim 5, got [2, 3, 12].",
  );
  expect(() => rotary({ x }, { headDim: 6, rotaryDim: 3 })).toThrow("rotaryDim must be even and within 2..headDim = 6");
  expect(() => rotary({ x }, { headDim: 6, base: 1 })).toThrow("base must be above 1");
  expect(() => rotary({ x, positions: zeros(reference, [3], "i32") }, { headDim: 6 })).toThrow(
    "positions must be [batch] = [2], got [3].",
  );
});
