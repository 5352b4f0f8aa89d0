// checkpoint: the same gradients, bit for bit, with less memory; within itself, and with states that need gradients.
import { expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { WasmBackend } from "../../src/backends/wasm/index.ts";
import { createRandom } from "../../src/core/random.ts";
import { add } from "../../src/ops/add/index.ts";
import { siluGate } from "../../src/ops/silu-gate/index.ts";
import { softplus } from "../../src/ops/softplus/index.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../support/backends.ts";
import { tinyModel } from "../support/tiny-model.ts";

/** y = a + softplus(a) · silu(b); twice, the second within a checkpoint within the first. */
function gradients(backend: Backend, isCheckpointed: boolean): Promise<number[][]> {
  const part = <T extends object>(inputs: Tensor[], body: () => T): T =>
    isCheckpointed ? checkpoint(inputs, body) : body();
  const results = scope(() => {
    const a = tensorFrom(backend, [0.3, -2, 1.5, 0.7], [2, 2]);
    const b = tensorFrom(backend, [1, 0.5, -0.25, 2], [2, 2]);
    a.requiresGrad = b.requiresGrad = true;
    const tape = new Tape();
    const once = (x: Tensor): Tensor => add({ a: x, b: siluGate({ x: softplus({ x }, {}).y, z: b }, {}).y }, {}).y;
    const { y, z } = tape.record(() =>
      part([a, b], () => {
        const first = once(a);
        const { second } = part([first, b], () => ({ second: once(first) }));
        return { y: second, z: first };
      }),
    );
    tape.seed(y, tensorFrom(backend, [1, 2, 3, 4], [2, 2]));
    tape.seed(z, tensorFrom(backend, [-1, 0.5, 0.25, 2], [2, 2]));
    tape.run();
    return [y, z, tape.gradOf(a)!, tape.gradOf(b)!];
  });
  return Promise.all(
    results.map(async (tensor) => {
      const data = [...(await tensor.readNative())];
      tensor.dispose();
      return data;
    }),
  );
}

it("gives the same values and gradients, one within another too", async () => {
  for (const backend of [reference, await wasmBackend(), ...(hasGpu ? [await gpuBackend()] : [])]) {
    const before = backend.memory().liveBytes;
    expect(await gradients(backend, true)).toEqual(await gradients(backend, false));
    expect(backend.memory().liveBytes).toBe(before);
  }
});

const BATCH = 2;
const LENGTH = 160;

/** A step of a small Mamba with a carried state: loss, gradients of all parameters, peak of memory. */
async function step(
  backend: Backend,
  checkpointBlocks: boolean,
): Promise<{ numbers: ArrayLike<number>[]; peak: number }> {
  const model = tinyModel(backend, { nLayer: 6 });
  const random = createRandom(1);
  const ids = (): Tensor =>
    tensorFrom(
      backend,
      Int32Array.from({ length: BATCH * LENGTH }, () => random.integer(256)),
      [BATCH, LENGTH],
      "i32",
    );
  const state = model.initialState(BATCH);
  const numbers: ArrayLike<number>[] = [];
  for (let i = 0; i < 2; i++) {
    const loss = scope(() => {
      const tape = new Tape(model.parameters());
      const result = tape.record(() => model.loss(ids(), ids(), state, { checkpointBlocks }));
      tape.backward(result.loss);
      result.state.dispose();
      return result.loss;
    });
    numbers.push(await loss.readNative());
    loss.dispose();
  }
  for (const { grad } of model.parameters()) numbers.push(await grad!.readNative());
  state.dispose();
  model.dispose();
  return { numbers, peak: backend.memory().peakBytes };
}

it("blocks that are computed again give the same bits, in less memory", async () => {
  const [plain, spared] = [
    await step(await WasmBackend.create({ threads: 2 }), false),
    await step(await WasmBackend.create({ threads: 2 }), true),
  ];
  expect(spared.numbers).toEqual(plain.numbers);
  // What is left: weights, gradients, a hidden tensor a layer, and one layer in full.
  expect(spared.peak).toBeLessThan(0.5 * plain.peak);
  expect((await step(reference, true)).numbers).toEqual((await step(reference, false)).numbers);
});
