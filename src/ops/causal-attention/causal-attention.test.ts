// causalAttention against the reference and central differences, and the laws that it keeps.
import { expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { InputSpec, OpCase } from "../../../test/support/test-op.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import type { HostArray } from "../../core/dtype.ts";
import { createRandom } from "../../core/random.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { AttentionOptions } from "./index.ts";
import { causalAttention } from "./index.ts";

interface Sizes {
  batch?: number;
  length: number;
  nHeads?: number;
  nKvHeads?: number;
  headDim: number;
}

function attentionCase(
  name: string,
  { batch = 1, length, nHeads = 1, nKvHeads = nHeads, headDim }: Sizes,
  { extraColumns, starts, scale }: { extraColumns?: number; starts?: readonly number[]; scale?: number } = {},
): OpCase<AttentionOptions> {
  const input = (heads: number): InputSpec => ({
    shape: [batch, length, heads * headDim],
    ...(extraColumns !== undefined && { extraColumns }),
  });
  const firstVisible: InputSpec = {
    shape: [batch, length],
    dtype: "i32",
    element: (_, index) => Math.max(...starts!.filter((start) => start <= index % length)),
  };
  return {
    name,
    inputs: { q: input(nHeads), k: input(nKvHeads), v: input(nKvHeads), ...(starts && { firstVisible }) },
    options: { headDim, ...(scale !== undefined && { scale }) },
  };
}

// Heads of 8 channels where nothing else is asked: a software adapter takes seconds to compile for each other number.
testOp(causalAttention, [
  // Its gradients of q and k are zero but for rounding.
  { ...attentionCase("one token", { length: 1, headDim: 8 }), unused: ["y"] },
  attentionCase("two heads", { batch: 2, length: 7, nHeads: 2, headDim: 8 }),
  attentionCase("views of columns", { batch: 2, length: 9, nHeads: 2, headDim: 8 }, { extraColumns: 8 }),
  attentionCase("a scale of one's own", { length: 20, headDim: 8 }, { scale: 1.5 }),
  attentionCase("more than a tile", { length: 131, nHeads: 3, nKvHeads: 1, headDim: 8 }),
  attentionCase("documents", { batch: 2, length: 131, headDim: 8 }, { starts: [0, 5, 40, 66] }),
  attentionCase("heads of no whole vectors", { length: 21, nHeads: 3, headDim: 6 }, { extraColumns: 3 }),
  attentionCase("wide heads", { length: 20, headDim: 40 }),
]);

testOpOnGpu(
  causalAttention,
  [
    attentionCase("heads that share keys", { batch: 3, length: 70, nHeads: 4, nKvHeads: 2, headDim: 8 }),
    attentionCase("views", { batch: 2, length: 40, nHeads: 2, headDim: 8 }, { extraColumns: 8, starts: [0, 33] }),
  ],
  { halves: ["q", "k", "v"], bindingBytes: 12288 },
);

const QKV = { batch: 2, length: 40, nHeads: 4, nKvHeads: 2, headDim: 8 };

/** The gradient of one tensor whose columns are q, k and v, or with k and v the other way round, or apart. */
async function gradOfQkv(backend: Backend, [atQ, atK, atV]: readonly number[]): Promise<HostArray> {
  const { batch, length, nHeads, nKvHeads, headDim } = QKV;
  const width = (nHeads + 2 * nKvHeads) * headDim + 8;
  const random = createRandom(3);
  const values = Array.from({ length: batch * length * width }, () => random.normal());
  const qkv = tensorFrom(backend, values, [batch, length, width]);
  qkv.requiresGrad = true;
  const heads = (from: number, count: number) => qkv.columnsOf(from, from + count * headDim);
  const tape = new Tape();
  const { y } = tape.record(() =>
    causalAttention({ q: heads(atQ, nHeads), k: heads(atK, nKvHeads), v: heads(atV, nKvHeads) }, { headDim }),
  );
  tape.backward(y, tensorFrom(backend, values.slice(0, y.size), y.shape));
  return tape.gradOf(qkv)!.readNative();
}

it.each([
  ["q, k, v", [0, 32, 48]],
  ["v, k, q", [32, 16, 0]],
  ["k apart from v", [16, 0, 56]],
  ["k that is v", [0, 32, 32]],
])("adds to the gradients of columns of one tensor: %s", async (_, columns) => {
  const expected = await gradOfQkv(reference, columns);
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [await wasmBackend(), ...gpus])
    expectClose("grad.qkv", await gradOfQkv(backend, columns), expected, 1e-4);
});

it.each(["q", "k", "v"] as const)("has the gradient of %s alone", async (wanted) => {
  const gradOf = async (backend: Backend, names: readonly string[]): Promise<HostArray> => {
    const values = Array.from({ length: 9 * 16 }, (_, i) => Math.sin(i * i));
    const [q, k, v] = [0, 1, 2].map((i) =>
      tensorFrom(
        backend,
        values.map((value) => value + i),
        [1, 9, 16],
      ),
    );
    const inputs = { q, k, v };
    for (const name of ["q", "k", "v"] as const) inputs[name].requiresGrad = names.includes(name);
    const tape = new Tape();
    const { y } = tape.record(() => causalAttention(inputs, { headDim: 8 }));
    tape.backward(y, tensorFrom(backend, values, [1, 9, 16]));
    return tape.gradOf(inputs[wanted])!.readNative();
  };
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [await wasmBackend(), ...gpus])
    expectClose(wanted, await gradOf(backend, [wanted]), await gradOf(reference, ["q", "k", "v"]), 1e-4);
});

it("holds for scores that are far apart", async () => {
  const gpus = hasGpu ? [await gpuBackend()] : [];
  for (const backend of [reference, await wasmBackend("simd"), await wasmBackend("relaxed"), ...gpus]) {
    const q = tensorFrom(backend, [1, 0, 0, 0, 1, 0, 0, 0], [1, 2, 4]);
    const k = tensorFrom(backend, [3000, 0, 0, 0, -3000, 0, 0, 0], [1, 2, 4]);
    const v = tensorFrom(backend, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 4]);
    expect(Array.from(await causalAttention({ q, k, v }, { headDim: 4, scale: 1 }).y.readNative())).toEqual([
      1, 2, 3, 4, 1, 2, 3, 4,
    ]);
  }
});

it("says which shapes do not fit", () => {
  const q = zeros(reference, [2, 3, 12]);
  const k = zeros(reference, [2, 3, 8]);
  expect(() => causalAttention({ q, k, v: k }, { headDim: 4 })).toThrow(
    "causalAttention: the heads of q must be a multiple of those of k, got 12 and 8 columns with headDim 4.",
  );
  expect(() => causalAttention({ q, k: q, v: k }, { headDim: 4 })).toThrow(
    "k and v must be [2, 3, nKvHeads · headDim]",
  );
  expect(() => causalAttention({ q, k: q, v: q }, { headDim: 5 })).toThrow("with headDim 5");
  const firstVisible = zeros(reference, [2, 4], "i32");
  expect(() => causalAttention({ q, k: q, v: q, firstVisible }, { headDim: 4 })).toThrow(
    "firstVisible must be [batch, length] = [2, 3], got [2, 4].",
  );
});
