// Laws of a LanguageModel on a GPU: step by step = chunks = whole, causal, rows independent, documents apart, states exact;
// and the memory of a training step.
import { beforeAll, describe, expect, it } from "vitest";
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { createRandom } from "../../src/core/random.ts";
import type { MambaModel } from "../../src/models/mamba/model.ts";
import type { MambaState } from "../../src/models/mamba/state.ts";
import { crossEntropy } from "../../src/ops/cross-entropy/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";
import { gpuBackend, hasGpu, onGpu, reference } from "../support/backends.ts";
import { expectClose } from "../support/compare.ts";
import { tinyModel } from "../support/tiny-model.ts";

const VOCABULARY = 256;
/** Of the largest logit. Sums of a product may run in another order when it has fewer rows. */
const TOLERANCE = 1e-4;

function randomTokens(count: number, seed = 3): number[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => random.integer(VOCABULARY));
}

const idsOf = (model: MambaModel, rows: readonly number[][]): Tensor =>
  tensorFrom(model.backend, rows.flat(), [rows.length, rows[0].length], "i32");

interface Run {
  /** Of each row, all positions behind each other. */
  readonly logits: number[][];
  readonly state: MambaState;
}

async function run(model: MambaModel, rows: readonly number[][], state?: MambaState): Promise<Run> {
  const before = state ?? model.initialState(rows.length);
  const result = scope(() => model.forward(idsOf(model, rows), before));
  if (!state) before.dispose();
  const all = Array.from(await result.logits.read());
  result.logits.dispose();
  const size = rows[0].length * VOCABULARY;
  return { logits: rows.map((_, i) => all.slice(i * size, (i + 1) * size)), state: result.state };
}

describe.skipIf(!hasGpu)(onGpu("MambaModel on WebGPU"), () => {
  let backend: WebGpuBackend;
  let model: MambaModel;
  beforeAll(async () => {
    backend = await gpuBackend();
    model = tinyModel(backend);
  });

  it("gives what the reference gives", async () => {
    const rows = [randomTokens(70, 1), randomTokens(70, 2)];
    const [actual, expected] = [await run(model, rows), await run(tinyModel(reference), rows)];
    expectClose("logits", actual.logits.flat(), expected.logits.flat(), TOLERANCE);
    const [arrays, wanted] = [await actual.state.toArrays(), await expected.state.toArrays()];
    expect(arrays.map(({ name, shape }) => [name, shape])).toEqual(wanted.map(({ name, shape }) => [name, shape]));
    arrays.forEach(({ name, data }, i) => expectClose(name, data, wanted[i].data, TOLERANCE));
  });

  it("gives the same in one call, in chunks and step by step", async () => {
    const tokens = randomTokens(43);
    const whole = (await run(model, [tokens])).logits[0];
    for (const chunks of [[1, 30, 12], [40, 3], Array(43).fill(1)] as number[][]) {
      let state = model.initialState();
      const parts: number[] = [];
      let at = 0;
      for (const length of chunks) {
        const result = await run(model, [tokens.slice(at, at + length)], state);
        parts.push(...result.logits[0]);
        state.dispose();
        state = result.state;
        at += length;
      }
      expectClose(`chunks of ${chunks.join()}`, parts, whole, TOLERANCE);
    }
    const state = model.initialState();
    const steps: number[] = [];
    for (const token of tokens) steps.push(...(await scope(() => model.step(idsOf(model, [[token]]), state)).read()));
    expectClose("steps", steps, whole, TOLERANCE);
  });

  it("keeps the rows of a batch apart, and is causal", async () => {
    const rows = [randomTokens(33, 1), randomTokens(33, 2), randomTokens(33, 3)];
    const together = (await run(model, rows)).logits;
    for (const [i, row] of rows.entries())
      expectClose(`row ${i}`, together[i], (await run(model, [row])).logits[0], TOLERANCE);
    const changed = rows.map((row) => row.with(20, (row[20] + 1) % VOCABULARY));
    const after = (await run(model, changed)).logits;
    const head = 20 * VOCABULARY;
    expect(after.map((logits) => logits.slice(0, head))).toEqual(together.map((logits) => logits.slice(0, head)));
    expect(after[0].slice(head, head + VOCABULARY)).not.toEqual(together[0].slice(head, head + VOCABULARY));
  });

  it("forgets at a document's start", async () => {
    const [first, second] = [randomTokens(11, 1), randomTokens(13, 2)];
    const logits = scope(() => {
      const starts = Array.from({ length: 24 }, (_, i) => (i === 11 ? 1 : 0));
      const documentStarts = tensorFrom(backend, starts, [1, 24], "i32");
      return model.forward(idsOf(model, [[...first, ...second]]), model.initialState(), { documentStarts }).logits;
    });
    const alone = (await run(model, [second])).logits[0];
    expectClose("second document", Array.from(await logits.read()).slice(11 * VOCABULARY), alone, TOLERANCE);
  });

  it("forks, selects and stacks states exactly, and leaves the given state as it was", async () => {
    const { state } = await run(model, [randomTokens(9, 1), randomTokens(9, 2)]);
    const next = [randomTokens(5, 3), randomTokens(5, 4)];
    const fork = state.fork();
    const expected = (await run(model, next, state)).logits;
    expect((await run(model, next, fork)).logits).toEqual(expected);
    expect((await run(model, next, state)).logits).toEqual(expected);
    const stacked = model.stackStates([state.select([0]), state.select([1])]);
    expect((await run(model, next, stacked)).logits).toEqual(expected);
    const swapped = (await run(model, next.toReversed(), state.select([1, 0]))).logits;
    expect(swapped).toEqual(expected.toReversed());
    expectClose("one row", (await run(model, [next[1]], state.select([1]))).logits[0], expected[1], TOLERANCE);
  });

  it("says which token id is beyond the vocabulary", async () => {
    await expect(run(model, [[1, 2, 256]])).rejects.toThrow(/256/);
  });

  it("gives all memory back: after a call, after a training step, and with the model", async () => {
    const own = await gpuBackend();
    const small = tinyModel(own);
    const parameters = [...small.namedParameters().values()];
    const call = async (): Promise<void> => (await run(small, [randomTokens(50)])).state.dispose();
    const step = async (): Promise<number> => {
      const before = small.initialState();
      const loss = scope(() => {
        const tape = new Tape(parameters);
        const { loss } = tape.record(() => {
          const { logits, state } = small.forward(idsOf(small, [randomTokens(20)]), before);
          state.dispose();
          const targets = idsOf(small, [randomTokens(20, 4)]);
          return crossEntropy({ logits, targets }, {});
        });
        tape.backward(loss);
        return loss;
      });
      const [value] = await loss.read();
      loss.dispose();
      before.dispose();
      return value;
    };
    await call();
    expect(await step()).toBeGreaterThan(0);
    const { liveBytes } = own.memory();
    for (let i = 0; i < 3; i++) {
      await call();
      await step();
    }
    expect(own.memory().liveBytes).toBe(liveBytes);
    small.dispose();
    expect(own.memory().liveBytes).toBe(0);
  });
});
