// What must hold for every architecture on every device: steps, pieces and batches are the whole; gradients are the reference's.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, onGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import type { ModelState } from "../../nn/language-model.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { ArchitectureOptions } from "../architectures.ts";
import { ARCHITECTURES, createModel } from "../architectures.ts";
import type { StackModel } from "./model.ts";

const SIZES: ArchitectureOptions = {
  dModel: 16,
  nLayer: 2,
  vocabSize: 24,
  dState: 8,
  headDim: 8,
  dMlp: 24,
  nExperts: 4,
  topK: 2,
};
/** Architectures beside Mamba itself, which has tests of its own. A hybrid of five layers has attention in the last. */
const STACKS = ARCHITECTURES.filter(({ name }) => name !== "mamba").map(({ name }) => name);
const LENGTH = 13;

const DEVICES: readonly { name: string; open: () => Promise<Backend>; tolerance: number; isAbsent?: boolean }[] = [
  { name: "reference", open: () => Promise.resolve(reference), tolerance: 1e-9 },
  { name: "wasm", open: () => wasmBackend(), tolerance: 1e-5 },
  { name: onGpu("webgpu"), open: () => gpuBackend(), tolerance: 1e-4, isAbsent: !hasGpu },
];

function newModel(architecture: string, backend: Backend): StackModel {
  const options = architecture === "hybrid" ? { ...SIZES, nLayer: 5 } : SIZES;
  return createModel(architecture, options, backend, createRandom(11)) as StackModel;
}

const random = createRandom(4);
const IDS = Int32Array.from({ length: 2 * LENGTH }, () => random.integer(SIZES.vocabSize));
const TARGETS = Int32Array.from({ length: 2 * LENGTH }, () => random.integer(SIZES.vocabSize));

function tokensOf(backend: Backend, from: number, to: number): Tensor {
  const rows = [0, 1].map((row) => IDS.subarray(row * LENGTH + from, row * LENGTH + to));
  return tensorFrom(backend, Int32Array.from(rows.flatMap((row) => [...row])), [2, to - from], "i32");
}

/** Logits of the last position of each row. Leaves nothing behind but the state. */
async function lastLogits(model: StackModel, state: ModelState, from: number, to: number): Promise<number[]> {
  return logitsOf(model, state, tokensOf(model.backend, from, to));
}

/** {@link lastLogits} of any tokens, which are disposed of. */
async function logitsOf(model: StackModel, state: ModelState, tokens: Tensor): Promise<number[]> {
  const { logits } = model.forward(tokens, state as never, { logits: "last", inPlace: true });
  const values = Array.from(await logits.readNative());
  for (const tensor of [logits, tokens]) (tensor.base ?? tensor).dispose();
  return values;
}

async function gradients(
  model: StackModel,
  options: { checkpointBlocks?: boolean; finalState?: boolean } = {},
): Promise<Map<string, number[]>> {
  const parameters = model.namedParameters();
  for (const parameter of parameters.values()) parameter.clearGrad();
  const state = model.initialState(2);
  scope(() => {
    const tape = new Tape(parameters.values());
    const [tokens, targets] = [IDS, TARGETS].map((ids) => tensorFrom(model.backend, ids, [2, LENGTH], "i32"));
    const result = tape.record(() => model.loss(tokens, targets, state, { finalState: false, ...options }));
    tape.backward(result.objective ?? result.loss);
    result.state.dispose();
  });
  state.dispose();
  const grads = new Map<string, number[]>();
  for (const [name, { grad }] of parameters) grads.set(name, Array.from(await grad!.readNative()));
  return grads;
}

for (const { name, open, tolerance, isAbsent = false } of DEVICES)
  describe.skipIf(isAbsent)(name, () => {
    it.each(STACKS)("%s: in pieces, step by step and alone as in one call", async (architecture) => {
      const model = newModel(architecture, await open());
      const live = model.backend.memory().liveBytes;
      const all = model.initialState(2);
      const whole = await lastLogits(model, all, 0, LENGTH);
      const pieces = model.initialState(2);
      await lastLogits(model, pieces, 0, 5);
      for (let t = 5; t < LENGTH - 1; t++) await lastLogits(model, pieces, t, t + 1);
      const fork = pieces.fork();
      expectClose("pieces", await lastLogits(model, pieces, LENGTH - 1, LENGTH), whole, tolerance);
      const picked = fork.select([1, 0, 1]);
      const last = [IDS[LENGTH - 1], IDS[2 * LENGTH - 1]];
      const three = tensorFrom(model.backend, [last[1], last[0], last[1]], [3, 1], "i32");
      const swapped = await logitsOf(model, picked, three);
      const half = whole.length / 2;
      expectClose("picked", swapped, [...whole.slice(half), ...whole.slice(0, half), ...whole.slice(half)], tolerance);
      const [second, first] = [fork.select([1]), fork.select([0])];
      const stacked = model.stackStates([second, first]);
      const two = tensorFrom(model.backend, last.toReversed(), [2, 1], "i32");
      expectClose("stacked", await logitsOf(model, stacked, two), swapped.slice(0, 2 * half), tolerance);
      for (const state of [all, pieces, fork, picked, second, first, stacked]) state.dispose();
      expect(model.backend.memory().liveBytes).toBe(live);
      model.dispose();
    });

    it.each(STACKS)("%s: a saved state continues", async (architecture) => {
      const model = newModel(architecture, await open());
      const state = model.initialState(2);
      await lastLogits(model, state, 0, 6);
      const arrays = new Map((await state.toArrays()).map((array) => [array.name, array]));
      const saved = {
        shapes: new Map([...arrays].map(([key, { shape }]) => [key, shape])),
        read: (key: string) => Promise.resolve(arrays.get(key)!.data),
      };
      const loaded = await model.stateFrom(saved, "memory");
      // Saved states are float32, whatever the device computes in.
      expectClose(
        "after",
        await lastLogits(model, loaded, 6, LENGTH),
        await lastLogits(model, state, 6, LENGTH),
        Math.max(tolerance, 1e-6),
      );
      [state, loaded].forEach((each) => each.dispose());
      model.dispose();
    });

    if (name === "reference") return;
    it.each(STACKS)("%s: gradients of the reference", async (architecture) => {
      const [oracle, model] = [newModel(architecture, reference), newModel(architecture, await open())];
      const expected = await gradients(oracle);
      for (const options of [{}, { checkpointBlocks: true }])
        for (const [key, grad] of await gradients(model, options)) expectClose(key, grad, expected.get(key)!, 1e-4);
      model.dispose();
    });
  });

describe("gradients of the reference", () => {
  it.each(STACKS)("%s: central differences", async (architecture) => {
    const model = newModel(architecture, reference);
    const grads = await gradients(model);
    const direction = createRandom(3);
    for (const [name, parameter] of model.namedParameters()) {
      const values = Array.from(await parameter.tensor.readNative());
      const along = values.map(() => direction.normal());
      const at = async (step: number): Promise<number> => {
        parameter.tensor.write(Float64Array.from(values, (value, i) => value + step * along[i]));
        parameter.markChanged();
        return objectiveOf(model);
      };
      const slope = ((await at(1e-6)) - (await at(-1e-6))) / 2e-6;
      await at(0);
      const expected = grads.get(name)!.reduce((sum, grad, i) => sum + grad * along[i], 0);
      expectClose(name, [slope], [expected], 1e-6 * Math.max(1, 1 / Math.abs(expected)));
    }
    model.dispose();
  });
});

async function objectiveOf(model: StackModel): Promise<number> {
  const state = model.initialState(2);
  const tape = new Tape(model.parameters());
  const objective = scope(() => {
    const [tokens, targets] = [IDS, TARGETS].map((ids) => tensorFrom(model.backend, ids, [2, LENGTH], "i32"));
    const result = tape.record(() => model.loss(tokens, targets, state, { finalState: false }));
    result.state.dispose();
    return result.objective ?? result.loss;
  });
  const [value] = await objective.readNative();
  state.dispose();
  return value;
}

it.skipIf(!hasGpu).each(["transformer", "s4d", "lstm", "mamba-moe"])(
  "%s: float16 activations stay near float32, and a cache of keys is float16, too",
  async (architecture) => {
    const backend = await gpuBackend();
    if (!backend.has("shader-f16")) return;
    const model = newModel(architecture, backend);
    const logits = async (activations: "f32" | "f16"): Promise<number[]> => {
      model.activations = activations;
      const state = model.initialState(2);
      await lastLogits(model, state, 0, 9);
      for (let t = 9; t < LENGTH - 1; t++) await lastLogits(model, state, t, t + 1);
      const last = await lastLogits(model, state, LENGTH - 1, LENGTH);
      const caches = state.mixers.flatMap(({ keys }) => (keys ? [keys.dtype] : []));
      expect(caches.every((dtype) => dtype === activations)).toBe(true);
      state.dispose();
      return last;
    };
    // float16 has 11 bits; some of its rounding adds up over two layers.
    expectClose("float16", await logits("f16"), await logits("f32"), 1e-2);
    model.dispose();
  },
);
