// linearCrossEntropy against the reference and central differences, against the two ops that it stands for, and by chunks.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import type { DType } from "../../core/dtype.ts";
import { createRandom } from "../../core/random.ts";
import type { Random } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { crossEntropy } from "../cross-entropy/index.ts";
import { linear } from "../linear/index.ts";
import { linearCrossEntropy } from "./index.ts";

const targets = (shape: number[], vocab: number, ignored = 0) => ({
  shape,
  dtype: "i32" as const,
  element: (random: Random) => (random.uniform() < ignored ? -100 : random.integer(vocab)),
});

testOp(linearCrossEntropy, [
  {
    name: "one row",
    inputs: { x: { shape: [5] }, weight: { shape: [7, 5] }, targets: targets([], 7) },
    options: {},
  },
  {
    name: "[2, 5, 12], a view, some ignored",
    inputs: {
      x: { shape: [2, 5, 12], extraColumns: 4 },
      weight: { shape: [16, 12] },
      targets: targets([2, 5], 16, 0.3),
    },
    options: {},
    unused: ["losses"],
  },
  {
    name: "a padded vocabulary, the losses alone",
    inputs: { x: { shape: [6, 8] }, weight: { shape: [24, 8] }, targets: targets([6], 19) },
    options: { vocabSize: 19, ignoreIndex: 3 },
    unused: ["loss"],
  },
]);

interface Results {
  readonly loss: Tensor;
  readonly losses: Tensor;
  readonly gradX: Tensor;
  readonly gradWeight: Tensor;
}

const ROWS = 200;
const INPUTS = 8;

/** Runs either form over many rows, some of them ignored. */
async function run(
  backend: Backend,
  vocabulary: number,
  form: "one" | "two",
  { dtype = "f32", seedsLosses = false }: { dtype?: DType; seedsLosses?: boolean } = {},
): Promise<Record<keyof Results, ArrayLike<number>>> {
  const random = createRandom(3);
  const draw = (count: number, scale: number): number[] =>
    Array.from({ length: count }, () => Math.fround(scale * random.normal()));
  const [xs, ws] = [draw(ROWS * INPUTS, 1), draw(vocabulary * INPUTS, 0.3)];
  const ids = Array.from({ length: ROWS }, (_, i) => (i % 7 === 0 ? -100 : random.integer(vocabulary)));
  const results = scope((): Results => {
    const x = tensorFrom(backend, xs, [ROWS, INPUTS], dtype);
    const weight = tensorFrom(backend, ws, [vocabulary, INPUTS]);
    x.requiresGrad = weight.requiresGrad = true;
    const targets = tensorFrom(backend, ids, [ROWS], "i32");
    const tape = new Tape();
    const { loss, losses } = tape.record(() => {
      if (form === "one") return linearCrossEntropy({ x, weight, targets }, {});
      return crossEntropy({ logits: linear({ x, weight }, { dtype: "f32" }).y, targets }, {});
    });
    tape.seed(loss, 2);
    if (seedsLosses) tape.seed(losses, tensorFrom(backend, xs.slice(0, ROWS), [ROWS]));
    tape.run();
    return { loss, losses, gradX: tape.gradOf(x)!, gradWeight: tape.gradOf(weight)! };
  });
  const entries = Object.entries(results).map(async ([name, tensor]: [string, Tensor]) => {
    const data = await tensor.readNative();
    tensor.dispose();
    return [name, data] as const;
  });
  return Object.fromEntries(await Promise.all(entries)) as unknown as Record<keyof Results, ArrayLike<number>>;
}

it("has the bits of linear and crossEntropy where all logits fit", async () => {
  for (const backend of [reference, await wasmBackend("relaxed"), await wasmBackend("simd")])
    expect(await run(backend, 50, "one")).toEqual(await run(backend, 50, "two"));
});

it("has the same bits of every row by chunks, and holds the logits of one chunk at the most", async () => {
  const backend = await wasmBackend();
  const vocabulary = 100_000;
  const one = await run(backend, vocabulary, "one");
  const { liveBytes, peakBytes } = backend.memory();
  expect(liveBytes).toBe(0);
  // Weights and their gradients, 128 rows of logits and their gradients, not 200 rows of either.
  expect(peakBytes).toBeLessThan(4 * vocabulary * 2 * (INPUTS + 128) * 1.01);
  const two = await run(backend, vocabulary, "two");
  for (const name of ["loss", "losses", "gradX"] as const) expect(one[name]).toEqual(two[name]);
  expectClose("gradWeight", one.gradWeight, two.gradWeight, 1e-6);
});

it.skipIf(!hasGpu).each([
  { dtype: "f32", seedsLosses: false },
  { dtype: "f32", seedsLosses: true },
  { dtype: "f16", seedsLosses: false },
] as const)("agrees with the reference on a GPU by chunks: %j", async (how) => {
  const vocabulary = 1000;
  // Room for the logits of 128 of 200 rows.
  const backend = await gpuBackend({ maxBindingBytes: 2 ** 19 });
  if (how.dtype === "f16" && !backend.has("shader-f16")) return;
  const actual = await run(backend, vocabulary, "one", how);
  const expected = await run(await wasmBackend(), vocabulary, "one", { ...how, dtype: "f32" });
  // Operands of float16: 11 bits, and a gradient of logits of as many.
  const tolerance = how.dtype === "f32" ? 1e-5 : 3e-3;
  for (const name of ["loss", "losses", "gradX", "gradWeight"] as const)
    expectClose(name, actual[name], expected[name], tolerance);
});

it("says what is wrong", () => {
  const x = zeros(reference, [2, 3]);
  const weight = zeros(reference, [5, 3]);
  const ids = zeros(reference, [2], "i32");
  expect(() => linearCrossEntropy({ x, weight: zeros(reference, [5, 4]), targets: ids }, {})).toThrow(
    "linearCrossEntropy: x must be [..., inputs] and weight [vocabulary, inputs], got [2, 3] and [5, 4].",
  );
  expect(() => linearCrossEntropy({ x, weight, targets: zeros(reference, [3], "i32") }, {})).toThrow(
    "targets must be [2] with closed-up rows, got [3]",
  );
  expect(() => linearCrossEntropy({ x, weight, targets: zeros(reference, [2]) }, {})).toThrow("must be i32, got f32");
  expect(() => linearCrossEntropy({ x, weight, targets: ids }, { vocabSize: 6 })).toThrow(
    "from 1 to the weight's 5 rows",
  );
  const wrong = tensorFrom(reference, [0, 5], [2], "i32");
  expect(() => linearCrossEntropy({ x, weight, targets: wrong }, {})).toThrow("target 5 at position [1] is outside");
});
