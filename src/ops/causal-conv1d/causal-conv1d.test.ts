// causalConv1d against golden vectors, the reference, central differences, and its laws.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { readGolden } from "../../../test/support/fixtures.ts";
import type { InputSpec, OpCase } from "../../../test/support/test-op.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { ConvOptions } from "./index.ts";
import { causalConv1d } from "./index.ts";

interface Sizes {
  batch: number;
  length: number;
  channels: number;
  width: number;
}

function convCase(
  { batch, length, channels, width }: Sizes,
  extra: Record<string, InputSpec> = {},
  silu = true,
): OpCase<ConvOptions> {
  const inputs = { x: { shape: [batch, length, channels] }, weight: { shape: [channels, width] }, ...extra };
  return {
    name: `${[batch, length, channels].join(" ")} width ${width} ${Object.keys(extra).join(" ")}`,
    inputs,
    options: { silu },
  };
}

function state({ batch, channels, width }: Sizes): InputSpec {
  return { shape: [batch, width - 1, channels] };
}

const sizes = (length: number, channels: number, width = 4, batch = 2): Sizes => ({ batch, length, channels, width });
const starts = (batch: number, length: number): InputSpec => ({
  shape: [batch, length],
  dtype: "i32",
  element: (r) => (r.uniform() < 0.25 ? 1 : 0),
});

testOp(causalConv1d, [
  convCase(sizes(1, 5), { bias: { shape: [5] } }),
  convCase(sizes(2, 4, 3), { bias: { shape: [4] }, initialState: state(sizes(2, 4, 3)) }),
  convCase(sizes(1, 7, 4), { initialState: state(sizes(1, 7, 4)) }),
  convCase(sizes(3, 6, 2), {}, false),
  convCase(sizes(9, 19, 4), {
    bias: { shape: [19] },
    initialState: state(sizes(9, 19, 4)),
    documentStarts: starts(2, 9),
  }),
  convCase(sizes(9, 19, 3), { documentStarts: starts(2, 9) }),
  convCase(sizes(70, 33, 4), { bias: { shape: [33] } }),
  convCase(sizes(64, 4, 4, 1), { initialState: state(sizes(64, 4, 4, 1)) }),
  convCase(sizes(66, 5, 4), { bias: { shape: [5] }, initialState: state(sizes(66, 5, 4)) }),
  convCase(sizes(129, 8, 4, 1), { bias: { shape: [8] } }, false),
  {
    ...convCase(sizes(8, 10, 4), { bias: { shape: [10] } }),
    name: "views of columns",
    inputs: { x: { shape: [2, 8, 10], extraColumns: 12 }, weight: { shape: [10, 4] }, bias: { shape: [10] } },
  },
  {
    ...convCase(sizes(5, 6, 4), { initialState: state(sizes(5, 6, 4)) }),
    name: "only finalState is used",
    unused: ["y"],
  },
]);

testOpOnGpu(
  causalConv1d,
  [
    convCase(sizes(70, 12, 4), {
      bias: { shape: [12] },
      initialState: state(sizes(70, 12, 4)),
      documentStarts: starts(2, 70),
    }),
    {
      ...convCase(sizes(12, 32, 4), {}),
      name: "views of whole vectors",
      inputs: { x: { shape: [2, 12, 32], extraColumns: 32 }, weight: { shape: [32, 4] }, bias: { shape: [32] } },
    },
  ],
  { halves: ["x"] },
);

describe("golden vectors", () => {
  const swap = (data: ArrayLike<number>, batch: number, a: number, b: number): number[] =>
    Array.from(
      { length: batch * a * b },
      (_, i) => data[Math.floor(i / (a * b)) * a * b + (i % a) * b + (Math.floor(i / a) % b)],
    );
  it.each([1, 2, 3, 7, 16])("length %i", async (length) => {
    expect.hasAssertions();
    const { tensors } = await readGolden(`golden/conv1d_b2_d5_L${length}_w4_silu.safetensors`);
    const golden = (name: string): Float32Array => tensors.get(name)!.data;
    for (const [backend, tolerance] of [
      [reference, 1e-6],
      [await wasmBackend("relaxed"), 1e-4],
      [await wasmBackend("simd"), 1e-4],
    ] as [Backend, number][])
      scope(() => {
        const shape = [2, length, 5];
        const x = tensorFrom(backend, swap(golden("x"), 2, 5, length), shape);
        const weight = tensorFrom(backend, golden("weight"), [5, 4]);
        const bias = tensorFrom(backend, golden("bias"), [5]);
        for (const tensor of [x, weight, bias]) tensor.requiresGrad = true;
        const tape = new Tape();
        const { y } = tape.record(() => causalConv1d({ x, weight, bias }, { silu: true }));
        expectClose("out", y.readNow(), swap(golden("out"), 2, 5, length), tolerance);
        tape.backward(y, tensorFrom(backend, swap(golden("dout"), 2, 5, length), shape));
        expectClose("dx", tape.gradOf(x)!.readNow(), swap(golden("dx"), 2, 5, length), tolerance);
        expectClose("dweight", tape.gradOf(weight)!.readNow(), golden("dweight"), tolerance);
        expectClose("dbias", tape.gradOf(bias)!.readNow(), golden("dbias"), tolerance);
      });
  });
});

it("gives the same bits in pieces through the state, written over in place, for any threads", async () => {
  const backends = [await wasmBackend("relaxed", 1), await wasmBackend("relaxed", 3), await wasmBackend("simd", 2)];
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 2, max: 4 }),
      (pieces, width) => {
        const length = pieces.reduce((sum, piece) => sum + piece, 0);
        const channels = 70;
        const random = createRandom(length);
        const x = Array.from({ length: length * channels }, () => random.normal());
        const w = Array.from({ length: channels * width }, () => random.normal());
        for (const backend of backends)
          scope(() => {
            const weight = tensorFrom(backend, w, [channels, width]);
            const initialState = tensorFrom(backend, new Float32Array((width - 1) * channels), [
              1,
              width - 1,
              channels,
            ]);
            const whole = causalConv1d({ x: tensorFrom(backend, x, [1, length, channels]), weight }, { silu: true });
            const parts: number[] = [];
            let at = 0;
            for (const piece of pieces) {
              const part = tensorFrom(backend, x.slice(at * channels, (at + piece) * channels), [1, piece, channels]);
              parts.push(
                ...causalConv1d(
                  { x: part, weight, initialState },
                  { silu: true },
                  { finalState: initialState },
                ).y.readNow(),
              );
              at += piece;
            }
            expect(parts).toEqual(Array.from(whole.y.readNow()));
            expect(initialState.readNow()).toEqual(whole.finalState.readNow());
          });
      },
    ),
    { numRuns: 12 },
  );
});

it.skipIf(!hasGpu)("gives the same numbers in pieces through the state on a GPU, written over in place", async () => {
  const backend = await gpuBackend();
  const random = createRandom(12);
  const [length, channels, width] = [24, 5, 4];
  const x = Float32Array.from({ length: length * channels }, () => random.normal());
  const weight = tensorFrom(
    backend,
    Array.from({ length: channels * width }, () => random.normal()),
    [channels, width],
  );
  const whole = causalConv1d({ x: tensorFrom(backend, x, [1, length, channels]), weight }, { silu: true });
  const state = zeros(backend, [1, width - 1, channels]);
  const parts: number[] = [];
  let at = 0;
  // Shorter than the state, and longer than what one thread walks.
  for (const piece of [1, 2, 1, 18, 1, 1]) {
    const part = tensorFrom(backend, x.slice(at * channels, (at + piece) * channels), [1, piece, channels]);
    const { y } = causalConv1d({ x: part, weight, initialState: state }, { silu: true }, { finalState: state });
    parts.push(...(await y.readNative()));
    at += piece;
  }
  expect(parts).toEqual(Array.from(await whole.y.readNative()));
  expect(await state.readNative()).toEqual(await whole.finalState.readNative());
});

it("says what does not fit", () => {
  const x = tensorFrom(reference, new Float32Array(12), [1, 3, 4]);
  const weight = tensorFrom(reference, new Float32Array(20), [4, 5]);
  expect(() => causalConv1d({ x, weight }, {})).toThrow(
    "causalConv1d: weight must be [channels, width] = [4, 2..4], got [4, 5].",
  );
  const bias = tensorFrom(reference, [1, 2, 3], [3]);
  expect(() => causalConv1d({ x, weight: weight.columnsOf(0, 4), bias }, {})).toThrow("bias must be [4], got [3]");
});
