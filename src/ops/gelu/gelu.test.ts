// gelu against the reference and central differences; and the error function against its table.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { OpCase } from "../../../test/support/test-op.ts";
import { testOp } from "../../../test/support/test-op.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { GeluOptions } from "./index.ts";
import { gelu } from "./index.ts";
import { normalBelow } from "./reference.ts";

const both = ["none", "tanh"] as const;
const cases = both.flatMap((approximate): OpCase<GeluOptions>[] => [
  { name: `[3, 5], ${approximate}`, inputs: { x: { shape: [3, 5] } }, options: { approximate } },
  {
    name: `a view of columns, ${approximate}`,
    inputs: { x: { shape: [2, 4, 19], extraColumns: 4 } },
    options: { approximate },
  },
  {
    name: `wide range, ${approximate}`,
    inputs: { x: { shape: [40, 18], element: (random) => 4 * random.normal() } },
    options: { approximate },
  },
]);
testOp(gelu, [{ name: "by default", inputs: { x: { shape: [130, 66] } }, options: {} }, ...cases]);
testOpOnGpu(
  gelu,
  [
    { name: "views of whole vectors", inputs: { x: { shape: [20, 24], extraColumns: 8 } }, options: {} },
    { name: "many rows", inputs: { x: { shape: [130, 65] } }, options: { approximate: "tanh" } },
  ],
  { halves: ["x"] },
);

it("has Φ to the last digits", () => {
  // By Python's math.erfc(-x / √2) / 2.
  expect(normalBelow(0)).toBe(0.5);
  expect(normalBelow(1)).toBeCloseTo(0.8413447460685429, 15);
  expect(normalBelow(-2.9) / 0.0018658133003840384).toBeCloseTo(1, 12);
  expect(normalBelow(-3) / 0.0013498980316300957).toBeCloseTo(1, 13);
  expect(normalBelow(-10) / 7.619853024160593e-24).toBeCloseTo(1, 13);
});

it("is exact to single precision at every magnitude, in the tail too", async () => {
  const values = Array.from({ length: 1201 }, (_, i) => Math.fround(i / 100 - 6));
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus]) {
    const y = await gelu({ x: tensorFrom(backend, values, [1201]) }, {}).y.readNative();
    // Relative: e^(-x²/2) of a rounded x² is off by half of x² units in the last place, and WGSL's exp by 3 + x².
    const allowed = backend.name === "wasm" ? 2e-6 : 1e-5;
    for (const [i, x] of values.entries()) {
      const exact = x * normalBelow(x);
      expect(Math.abs(y[i] - exact), `gelu(${x}) on ${backend.name}`).toBeLessThanOrEqual(allowed * Math.abs(exact));
    }
  }
});

it("holds for large numbers", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus])
    for (const approximate of both) {
      const { y } = gelu({ x: tensorFrom(backend, [1000, -1000, 20, -20], [4]) }, { approximate });
      const [huge, least, large, small] = await y.readNative();
      expect([huge, large]).toEqual([1000, 20]);
      for (const value of [least, small]) expect(value).toBeCloseTo(0, 12);
    }
});

it("says what is wrong", () => {
  const wrong = { approximate: "exact" } as unknown as GeluOptions;
  expect(() => gelu({ x: zeros(reference, [2]) }, wrong)).toThrow(
    'gelu: approximate must be "none" or "tanh", got "exact".',
  );
});
