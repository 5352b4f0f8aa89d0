// cachedAttention: step by step, in chunks and with rows of different lengths it equals attention in full.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import type { DType } from "../../core/dtype.ts";
import { createRandom } from "../../core/random.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { advanceLengths } from "../advance-lengths/index.ts";
import { causalAttention } from "../causal-attention/index.ts";
import { cachedAttention } from "./index.ts";

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
}

const SIZES: Sizes = { batch: 2, length: 41, nHeads: 4, nKvHeads: 2, headDim: 8 };

const BACKENDS: readonly [string, () => Promise<Backend>][] = [
  ["reference", async () => reference],
  ["simd", () => wasmBackend("simd")],
  ["relaxed", () => wasmBackend("relaxed")],
  ...(hasGpu ? [["webgpu", () => gpuBackend()] as [string, () => Promise<Backend>]] : []),
];

/** q, k and v side by side, as a model's projection gives them. */
function joint({ batch, length, nHeads, nKvHeads, headDim }: Sizes, seed = 1): number[] {
  const random = createRandom(seed);
  return Array.from({ length: batch * length * (nHeads + 2 * nKvHeads) * headDim }, () => Math.fround(random.normal()));
}

function partsOf(qkv: Tensor, { nHeads, nKvHeads, headDim }: Sizes): { q: Tensor; k: Tensor; v: Tensor } {
  const [q, kv] = [nHeads * headDim, nKvHeads * headDim];
  return { q: qkv.columnsOf(0, q), k: qkv.columnsOf(q, q + kv), v: qkv.columnsOf(q + kv, q + 2 * kv) };
}

/** Tokens [from, to) of every row. */
function tokens(data: readonly number[], { batch, length }: Sizes, from: number, to: number): number[] {
  const width = data.length / batch / length;
  return Array.from({ length: batch }, (_, row) =>
    data.slice((row * length + from) * width, (row * length + to) * width),
  ).flat();
}

function cacheOf(backend: Backend, { batch, nKvHeads, headDim }: Sizes, capacity: number, dtype: DType = "f32") {
  const shape = [batch, capacity, nKvHeads * headDim];
  return {
    keys: zeros(backend, shape, dtype),
    values: zeros(backend, shape, dtype),
    lengths: zeros(backend, [batch], "i32"),
  };
}

/** y of each row, chunk by chunk. */
async function inChunks(backend: Backend, sizes: Sizes, chunks: readonly number[], dtype?: DType): Promise<number[]> {
  const data = joint(sizes);
  const cache = cacheOf(backend, sizes, sizes.length + 3, dtype);
  const rows: number[][] = Array.from({ length: sizes.batch }, () => []);
  let from = 0;
  for (const count of chunks) {
    const chunk = tokens(data, sizes, from, from + count);
    const qkv = tensorFrom(backend, chunk, [sizes.batch, count, chunk.length / sizes.batch / count]);
    const { y } = cachedAttention({ ...partsOf(qkv, sizes), ...cache }, sizes);
    advanceLengths({ lengths: cache.lengths }, { by: count });
    const values = Array.from(await y.readNative());
    rows.forEach((row, i) =>
      row.push(...values.slice((i * values.length) / sizes.batch, ((i + 1) * values.length) / sizes.batch)),
    );
    from += count;
  }
  return rows.flat();
}

async function atOnce(backend: Backend, sizes: Sizes): Promise<number[]> {
  const data = joint(sizes);
  const qkv = tensorFrom(backend, data, [sizes.batch, sizes.length, data.length / sizes.batch / sizes.length]);
  return Array.from(await causalAttention(partsOf(qkv, sizes), sizes).y.readNative());
}

/** Attention of one query of a head in full, in float64: softmax over all keys, then the sum of values. */
function plainly(
  q: readonly number[],
  keys: readonly (readonly number[])[],
  values: readonly (readonly number[])[],
): number[] {
  const scores = keys.map((key) => key.reduce((sum, value, i) => sum + value * q[i], 0) / Math.sqrt(q.length));
  const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
  const total = weights.reduce((a, b) => a + b, 0);
  return q.map((_, i) => values.reduce((sum, value, key) => sum + (weights[key] / total) * value[i], 0));
}

describe.each(BACKENDS)("cachedAttention on %s", (name, open) => {
  it("step by step is attention at once", async () => {
    const expected = await atOnce(reference, SIZES);
    const ones = Array.from({ length: SIZES.length }, () => 1);
    expectClose("y", await inChunks(await open(), SIZES, ones), expected, 1e-5);
  });

  it("in chunks is attention at once", async () => {
    const backend = await open();
    const chunked = await inChunks(backend, SIZES, [5, 1, 33, 2]);
    expectClose("y", chunked, await atOnce(reference, SIZES), 1e-5);
    if (name === "simd" || name === "relaxed") expect(chunked).toEqual(await atOnce(backend, SIZES));
  });

  it("takes rows of different lengths, and leaves the rest of the cache", async () => {
    const sizes = { ...SIZES, batch: 3, length: 2, headDim: 64, nHeads: 2, nKvHeads: 1 };
    await compareRows(await open(), sizes, { capacity: 1024, lengths: [0, 700, 1022], count: 1 });
    await compareRows(await open(), { ...sizes, headDim: 8 }, { capacity: 40, lengths: [0, 13, 38], count: 2 });
  });

  it("tells tokens that do not fit by NaN", async () => {
    const backend = await open();
    for (const count of [1, 3]) {
      const sizes = { ...SIZES, batch: 2, length: count };
      const cache = cacheOf(backend, sizes, 10);
      cache.lengths.write(Int32Array.from([9, 10]));
      const data = joint(sizes);
      const qkv = tensorFrom(backend, data, [2, count, data.length / 2 / count]);
      const y = await cachedAttention({ ...partsOf(qkv, sizes), ...cache }, sizes).y.readNative();
      const isNan = Array.from({ length: 2 * count }, (_, row) => Number.isNaN(y[(row * y.length) / 2 / count]));
      expect(isNan).toEqual(count === 1 ? [false, true] : [false, true, true, true, true, true]);
    }
  });

  // The reference records no plans.
  if (name === "reference") return;
  it("is replayed by a plan while lengths grow", async () => {
    const backend = await open();
    const steps = 4;
    const sizes = { ...SIZES, length: steps };
    const data = joint(sizes);
    const cache = cacheOf(backend, sizes, 40);
    const width = data.length / sizes.batch / steps;
    const qkv = zeros(backend, [sizes.batch, 1, width]);
    const result = zeros(backend, [sizes.batch, 1, sizes.nHeads * sizes.headDim]);
    const plan = backend.capture!(() => {
      cachedAttention({ ...partsOf(qkv, sizes), ...cache }, { ...sizes, most: 1 }, { y: result });
      advanceLengths({ lengths: cache.lengths }, { by: 1 });
    });
    const expected = await inChunks(
      reference,
      sizes,
      Array.from({ length: steps }, () => 1),
    );
    for (let step = 0; step < steps; step++) {
      qkv.write(Float32Array.from(tokens(data, sizes, step, step + 1)));
      plan.run();
      expectClose(`step ${step}`, await result.readNative(), tokens(expected, sizes, step, step + 1), 1e-5);
    }
    plan.dispose();
  });
});

/** Compares with attention in full; rows of the cache before are random, and those behind must stay as they are. */
async function compareRows(
  backend: Backend,
  { nHeads, nKvHeads, headDim, batch }: Sizes,
  { capacity, lengths, count }: { capacity: number; lengths: readonly number[]; count: number },
): Promise<void> {
  const sizes = { batch, length: count, nHeads, nKvHeads, headDim };
  const cache = cacheOf(backend, sizes, capacity);
  const random = createRandom(9);
  const filled = [cache.keys, cache.values].map((tensor) => {
    const data = Float32Array.from({ length: tensor.size }, () => random.normal());
    tensor.write(data);
    return data;
  });
  cache.lengths.write(Int32Array.from(lengths));
  const data = joint(sizes, 4);
  const width = data.length / batch / count;
  const qkv = tensorFrom(backend, data, [batch, count, width]);
  const y = await cachedAttention({ ...partsOf(qkv, sizes), ...cache }, { headDim }).y.readNative();
  const kvWidth = nKvHeads * headDim;
  lengths.forEach((length, row) => {
    for (let t = 0; t < count; t++)
      filled.forEach((tensor, i) => {
        const at = (row * count + t) * width + nHeads * headDim + i * kvWidth;
        tensor.set(data.slice(at, at + kvWidth), (row * capacity + length + t) * kvWidth);
      });
  });
  const headsOf = (tensor: Float32Array, row: number, end: number, head: number): number[][] =>
    Array.from({ length: end }, (_, key) => {
      const at = (row * capacity + key) * kvWidth + head * headDim;
      return Array.from(tensor.subarray(at, at + headDim));
    });
  const expected: number[] = [];
  for (let row = 0; row < batch; row++)
    for (let t = 0; t < count; t++)
      for (let head = 0; head < nHeads; head++) {
        const q = data.slice(
          (row * count + t) * width + head * headDim,
          (row * count + t) * width + (head + 1) * headDim,
        );
        const [keys, values] = filled.map((tensor) =>
          headsOf(tensor, row, lengths[row] + t + 1, Math.floor((head * nKvHeads) / nHeads)),
        );
        expected.push(...plainly(q, keys, values));
      }
  expectClose("y", y, expected, 1e-5);
  expect(Array.from(await cache.keys.readNative())).toEqual(Array.from(filled[0]));
  expect(Array.from(await cache.values.readNative())).toEqual(Array.from(filled[1]));
}

it.skipIf(!hasGpu)("keeps a float16 cache on a GPU, in pieces too", async () => {
  const expected = await atOnce(reference, SIZES);
  const backend = await gpuBackend();
  const small = await gpuBackend({ maxBindingBytes: 12288 });
  const chunks = [33, 1, 7];
  if (backend.has("shader-f16")) expectClose("y", await inChunks(backend, SIZES, chunks, "f16"), expected, 3e-3);
  expectClose("y in pieces", await inChunks(small, SIZES, chunks), expected, 1e-5);
});

it("says what does not fit", () => {
  const sizes = { ...SIZES, length: 2 };
  const data = joint(sizes);
  const qkv = partsOf(tensorFrom(reference, data, [2, 2, 64]), sizes);
  const cache = cacheOf(reference, sizes, 8);
  expect(() => cachedAttention({ ...qkv, ...cache, keys: zeros(reference, [2, 8, 8]) }, { headDim: 8 })).toThrow(
    "cachedAttention: keys and values must be [2, capacity, 16], got [2, 8, 8] and [2, 8, 16].",
  );
  expect(() => cachedAttention({ ...qkv, ...cache, lengths: zeros(reference, [3], "i32") }, { headDim: 8 })).toThrow(
    "lengths must be [batch] = [2], got [3].",
  );
  expect(() => cachedAttention({ ...qkv, ...cache, values: cache.keys }, { headDim: 8 })).toThrow(
    "keys and values must be tensors of their own",
  );
});
