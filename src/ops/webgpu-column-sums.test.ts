// Column sums on a GPU against plain sums: vectors, views, many rows, float16, on top of what is there.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu } from "../../test/support/backends.ts";
import { expectClose } from "../../test/support/compare.ts";
import { createRandom } from "../core/random.ts";
import { emptyTensor, tensorFrom, zeros } from "../tensor/tensor.ts";
import { addColumnSums, addPartialSums } from "./webgpu-column-sums.ts";

it.skipIf(!hasGpu).each([
  [1, 1, 0],
  [3, 8, 0],
  [700, 132, 0],
  [2500, 37, 3],
])("sums %i rows of %i columns, %i columns beside them", async (rows, columns, beside) => {
  const random = createRandom(5);
  for (const maxBindingBytes of [1 << 20, 1 << 14]) {
    const backend = await gpuBackend({ maxBindingBytes });
    const base = emptyTensor(backend, [rows, columns + 2 * beside]);
    const values = Float32Array.from({ length: base.size }, () => random.normal());
    base.write(values);
    const expected = Array.from({ length: columns }, (_, column) => {
      let sum = 0;
      for (let row = 0; row < rows; row++) sum += values[row * base.columns + beside + column];
      return sum;
    });
    const sum = zeros(backend, [columns]);
    const x = base.columnsOf(beside, beside + columns);
    addColumnSums(backend, x, sum);
    expectClose("sum", await sum.readNative(), expected, 1e-5);
    addColumnSums(backend, x, sum);
    const twice = expected.map((value) => 2 * value);
    expectClose("twice", await sum.readNative(), twice, 1e-5);
  }
});

it.skipIf(!hasGpu)("puts sums of taps into the columns of a matrix", async () => {
  const backend = await gpuBackend();
  const partials = tensorFrom(backend, [1, 2, 3, 4, 5, 6, 10, 20, 30, 40, 50, 60], [2, 6]);
  const sum = zeros(backend, [3, 2]);
  addPartialSums(backend, partials, sum);
  expect([...(await sum.readNative())]).toEqual([11, 44, 22, 55, 33, 66]);
});
