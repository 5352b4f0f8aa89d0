// sumSquares against the reference; views; the same bits for any number of threads.
import { expect, it } from "vitest";
import { reference, wasmBackend } from "../../../test/support/backends.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { sumSquares } from "./index.ts";

/** Ragged sizes, one of several blocks, one a view of columns. */
function someTensors(backend: Backend): Tensor[] {
  const random = createRandom(8);
  const make = (shape: number[]): Tensor =>
    tensorFrom(
      backend,
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => Math.fround(random.normal())),
      shape,
    );
  return [make([]), make([7]), make([3, 11]), make([70001]), make([2, 16384]), make([40, 17]).columnsOf(3, 12)];
}

it("agrees with the reference, with the same bits for 1, 2 and 3 threads and both builds", async () => {
  const expected = sumSquares(someTensors(reference));
  const sums = [];
  for (const threads of [1, 2, 3]) sums.push(sumSquares(someTensors(await wasmBackend("relaxed", threads))));
  sums.push(sumSquares(someTensors(await wasmBackend("simd", 2))));
  expect(Math.abs(sums[0] / expected - 1)).toBeLessThan(1e-13);
  expect(new Set(sums).size).toBe(1);
});

it("neither overflows nor hides NaN, and is 0 for nothing", async () => {
  const backend = await wasmBackend();
  expect(sumSquares([])).toBe(0);
  expect(sumSquares([tensorFrom(backend, [3e38, 4], [2])])).toBeCloseTo(9e76, -71);
  expect(sumSquares([zeros(backend, [9]), tensorFrom(backend, [1, NaN, 2], [3])])).toBeNaN();
  const before = backend.memory().liveBytes;
  sumSquares([zeros(backend, [5])].map((x) => (x.dispose(), tensorFrom(backend, [1], [1]))));
  expect(backend.memory().liveBytes - before).toBe(64);
});

it("refuses tensors of two devices", async () => {
  const tensors = [zeros(reference, [1]), zeros(await wasmBackend(), [1])];
  expect(() => sumSquares(tensors)).toThrow("sumSquares: all tensors must be on one device.");
});
