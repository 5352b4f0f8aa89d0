// sumSquares against the reference; views; the same bits for any number of threads.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { sumSquares, sumSquaresNow } from "./index.ts";

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
  const expected = await sumSquares(someTensors(reference));
  const sums = [];
  for (const threads of [1, 2, 3]) sums.push(await sumSquares(someTensors(await wasmBackend("relaxed", threads))));
  sums.push(await sumSquares(someTensors(await wasmBackend("simd", 2))));
  expect(Math.abs(sums[0] / expected - 1)).toBeLessThan(1e-13);
  expect(new Set(sums).size).toBe(1);
});

it.skipIf(!hasGpu)("agrees with the reference on a GPU, in one binding or in several", async () => {
  const expected = await sumSquares(someTensors(reference));
  for (const options of [{}, { maxBindingBytes: 65536 }]) {
    const backend = await gpuBackend(options);
    // A vector has no rows to be cut by.
    const tensors = (): Tensor[] => someTensors(backend).filter(({ rows, size }) => rows > 1 || size < 16384);
    const rest = await sumSquares(someTensors(reference).filter(({ rows, size }) => rows === 1 && size >= 16384));
    const sum = await sumSquares(tensors());
    expect(Math.abs(sum / (expected - rest) - 1)).toBeLessThan(1e-6);
    expect(await sumSquares(tensors())).toBe(sum);
    expect(await sumSquares([tensorFrom(backend, [1, NaN], [2])])).toBeNaN();
    expect(await sumSquares([tensorFrom(backend, [3e38], [1])])).toBe(Infinity);
    expect(() => sumSquaresNow(tensors())).toThrow("Await sumSquares instead");
  }
});

it("neither overflows nor hides NaN, and is 0 for nothing", async () => {
  const backend = await wasmBackend();
  expect(await sumSquares([])).toBe(0);
  expect(await sumSquares([tensorFrom(backend, [3e38, 4], [2])])).toBeCloseTo(9e76, -71);
  expect(await sumSquares([zeros(backend, [9]), tensorFrom(backend, [1, NaN, 2], [3])])).toBeNaN();
  const before = backend.memory().liveBytes;
  await sumSquares([zeros(backend, [5])].map((x) => (x.dispose(), tensorFrom(backend, [1], [1]))));
  expect(backend.memory().liveBytes - before).toBe(64);
});

it("refuses tensors of two devices", async () => {
  const tensors = [zeros(reference, [1]), zeros(await wasmBackend(), [1])];
  await expect(sumSquares(tensors)).rejects.toThrow("sumSquares: all tensors must be on one device.");
});
