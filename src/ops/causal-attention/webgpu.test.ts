// causalAttention by matrix units, emulated where tests run, against the reference.
import { describe, it } from "vitest";
import { gpuBackend, hasGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { emptyTensor, tensorFrom, zeros } from "../../tensor/tensor.ts";
import { causalAttention } from "./index.ts";
import { backward } from "./webgpu-gradient.ts";
import { forward } from "./webgpu.ts";

interface Run {
  readonly name: string;
  readonly batch?: number;
  readonly length: number;
  readonly nHeads?: number;
  readonly nKvHeads?: number;
  readonly headDim?: number;
  readonly subgroups?: number;
  readonly starts?: readonly number[];
  /** Queries and keys grow along the sequence, and with them the largest score. */
  readonly grows?: boolean;
  /** Whether gradients are added to what is there. */
  readonly adds?: boolean;
  /** Whether the gradients of keys and values are columns of one tensor. */
  readonly isBeside?: boolean;
}

/** Numbers that float16 has. */
function halves(seed: number, count: number): Float32Array {
  const random = createRandom(seed);
  return Float32Array.from({ length: count }, () => Math.round(random.normal() * 256) / 256);
}

interface Made {
  readonly inputs: { q: Tensor; k: Tensor; v: Tensor; firstVisible?: Tensor };
  readonly gradY: Tensor;
}

/** Columns of one tensor, with some beside them. */
function make(backend: Backend, dtype: "f16" | "f32", run: Run): Made {
  const { batch = 1, length, nHeads = 1, nKvHeads = nHeads, headDim = 16, starts, grows = false } = run;
  const [width, kvWidth] = [nHeads * headDim, nKvHeads * headDim];
  const columns = width + 2 * kvWidth + 8;
  const values = halves(1, batch * length * columns);
  if (grows)
    values.forEach((value, i) => {
      const position = Math.floor(i / columns) % length;
      if (i % columns < width + kvWidth) values[i] = Math.round((Math.abs(value) * 6 * position * 16) / length) / 16;
    });
  const all = tensorFrom(backend, values, [batch, length, columns], dtype);
  const first = (i: number): number => Math.max(...starts!.filter((start) => start <= i % length));
  return {
    inputs: {
      q: all.columnsOf(0, width),
      k: all.columnsOf(width, width + kvWidth),
      v: all.columnsOf(width + kvWidth, width + 2 * kvWidth),
      ...(starts && {
        firstVisible: tensorFrom(
          backend,
          Int32Array.from({ length: batch * length }, (_, i) => first(i)),
          [batch, length],
          "i32",
        ),
      }),
    },
    gradY: tensorFrom(backend, halves(2, batch * length * width), [batch, length, width], dtype),
  };
}

type Results = { readonly [name: string]: Float32Array };

async function expectedOf(run: Run): Promise<Results> {
  const { inputs, gradY } = make(reference, "f32", run);
  for (const name of ["q", "k", "v"] as const) inputs[name].requiresGrad = true;
  const tape = new Tape();
  const { y } = tape.record(() => causalAttention(inputs, { headDim: run.headDim ?? 16 }));
  tape.backward(y, gradY);
  const gradOf = (name: "q" | "k" | "v"): Promise<Float32Array> => tape.gradOf(inputs[name])!.read();
  return { y: await y.read(), gradQ: await gradOf("q"), gradK: await gradOf("k"), gradV: await gradOf("v") };
}

const ADDED = 3;

async function actualOf(run: Run): Promise<Results> {
  const backend = await gpuBackend();
  const { inputs, gradY } = make(backend, "f16", run);
  const { headDim = 16, subgroups = 2, adds = false, isBeside = false } = run;
  const { q, k } = inputs;
  const units = { subgroups, emulated: true };
  const filled = (shape: readonly number[]): Tensor =>
    adds
      ? tensorFrom(backend, new Float32Array(shape.reduce((a, b) => a * b)).fill(ADDED), [...shape])
      : zeros(backend, [...shape]);
  const tensors = scope(() => {
    const y = emptyTensor(backend, q.shape, "f32");
    const logSum = emptyTensor(backend, [q.shape[0], q.shape[1], q.columns / headDim]);
    const kv = filled([k.shape[0], k.shape[1], 2 * k.columns]);
    const gradQ = filled(q.shape);
    const gradK = isBeside ? kv.columnsOf(k.columns, 2 * k.columns) : filled(k.shape);
    const gradV = isBeside ? kv.columnsOf(0, k.columns) : filled(k.shape);
    forward({ inputs, outputs: { y }, saved: { logSum }, options: { headDim } }, backend, units);
    const call = { inputs, outputs: { y }, saved: { logSum }, options: { headDim }, gradOutputs: { y: gradY } };
    backward({ ...call, gradInputs: { q: gradQ, k: gradK, v: gradV } }, backend, units);
    return { y, gradQ, gradK, gradV };
  });
  const read = async ([name, tensor]: [string, Tensor]): Promise<[string, Float32Array]> => {
    const values = await tensor.read();
    return [name, name !== "y" && adds ? values.map((value) => value - ADDED) : values];
  };
  return Object.fromEntries(await Promise.all(Object.entries(tensors).map(read)));
}

describe.skipIf(!hasGpu)("by matrix units", () => {
  it.each<Run>([
    { name: "a batch, heads, and an end within a tile", batch: 2, length: 77, nHeads: 2 },
    { name: "heads that share keys", length: 70, nHeads: 4, nKvHeads: 2, adds: true, isBeside: true },
    { name: "documents", batch: 2, length: 131, starts: [0, 5, 40, 66] },
    { name: "scores that grow", length: 100, grows: true },
    { name: "one subgroup, gradients of keys and values side by side", length: 40, subgroups: 1, isBeside: true },
  ])("$name", async (run) => {
    const expected = await expectedOf(run);
    const actual = await actualOf(run);
    for (const [name, values] of Object.entries(expected)) expectClose(name, actual[name], values, 2e-3);
  });
});
