// Laws of the model: step by step = whole, chunks = whole, causal, rows independent, states exact.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { reference, wasmBackend } from "../../../test/support/backends.ts";
import { tinyModel } from "../../../test/support/tiny-model.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { MambaModel } from "./model.ts";
import type { MambaState } from "./state.ts";

const VOCABULARY = 256;

function randomTokens(count: number, seed = 3): number[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => random.integer(VOCABULARY));
}

/** Logits of all positions of a batch of equally long rows, and the state. */
function run(model: MambaModel, rows: number[][], state?: MambaState): { logits: number[][]; state: MambaState } {
  const before = state ?? model.initialState(rows.length);
  const result = scope(() => {
    const tokens = tensorFrom(model.backend, rows.flat(), [rows.length, rows[0].length], "i32");
    return model.forward(tokens, before);
  });
  if (!state) before.dispose();
  const all = Array.from(result.logits.readNow());
  result.logits.dispose();
  const size = rows[0].length * VOCABULARY;
  return { logits: rows.map((_, i) => all.slice(i * size, (i + 1) * size)), state: result.state };
}

describe.each([
  ["reference", () => Promise.resolve(reference)],
  ["wasm relaxed, 2 threads", () => wasmBackend("relaxed", 2)],
  ["wasm simd, 3 threads", () => wasmBackend("simd", 3)],
])("MambaModel on %s", (_, open: () => Promise<Backend>) => {
  let model: MambaModel;
  beforeAll(async () => {
    model = tinyModel(await open());
  });

  it("gives the same bits in one call, in chunks and step by step", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }), (chunks) => {
        const tokens = randomTokens(chunks.reduce((sum, length) => sum + length, 0));
        const whole = run(model, [tokens]).logits[0];
        let state = model.initialState();
        const parts: number[] = [];
        let at = 0;
        for (const length of chunks) {
          const result = run(model, [tokens.slice(at, at + length)], state);
          parts.push(...result.logits[0]);
          state.dispose();
          state = result.state;
          at += length;
        }
        expect(parts).toEqual(whole);
      }),
      { numRuns: 8 },
    );
    const tokens = randomTokens(20);
    const state = model.initialState();
    const steps = tokens.flatMap((token) =>
      Array.from(model.step(tensorFrom(model.backend, [token], [1, 1], "i32"), state).readNow()),
    );
    expect(steps).toEqual(run(model, [tokens]).logits[0]);
  });

  it("keeps the rows of a batch apart", () => {
    const rows = [randomTokens(33, 1), randomTokens(33, 2), randomTokens(33, 3)];
    const together = run(model, rows).logits;
    expect(together).toEqual(rows.map((row) => run(model, [row]).logits[0]));
  });

  it("is causal: a later token changes no earlier logits", () => {
    const tokens = randomTokens(30);
    const changed = tokens.with(20, (tokens[20] + 1) % VOCABULARY);
    const [a, b] = [run(model, [tokens]).logits[0], run(model, [changed]).logits[0]];
    expect(b.slice(0, 20 * VOCABULARY)).toEqual(a.slice(0, 20 * VOCABULARY));
    expect(b.slice(20 * VOCABULARY)).not.toEqual(a.slice(20 * VOCABULARY));
  });

  it("forgets at a document's start", () => {
    const [first, second] = [randomTokens(11, 1), randomTokens(13, 2)];
    const logits = scope(() => {
      const starts = Array.from({ length: 24 }, (_, i) => (i === 11 ? 1 : 0));
      const documentStarts = tensorFrom(model.backend, starts, [1, 24], "i32");
      const tokens = tensorFrom(model.backend, [...first, ...second], [1, 24], "i32");
      return Array.from(model.forward(tokens, model.initialState(), { documentStarts }).logits.readNow());
    });
    expect(logits.slice(11 * VOCABULARY)).toEqual(run(model, [second]).logits[0]);
  });

  it("forks, selects and stacks states exactly, and leaves the given state as it was", () => {
    const { state } = run(model, [randomTokens(9, 1), randomTokens(9, 2)]);
    const fork = state.fork();
    const next = [randomTokens(5, 3), randomTokens(5, 4)];
    const expected = run(model, next, state).logits;
    expect(run(model, next, fork).logits).toEqual(expected);
    expect(run(model, next, state).logits).toEqual(expected);
    expect(run(model, [next[1]], state.select([1])).logits).toEqual([expected[1]]);
    const stacked = model.stackStates([state.select([0]), state.select([1])]);
    expect(run(model, next, stacked).logits).toEqual(expected);
  });

  it("says which token id is beyond the vocabulary", () => {
    expect(() => run(model, [[1, 2, 256]])).toThrow(/256/);
  });
});

describe("MambaModel's memory", () => {
  it("goes back to where it was after each call", async () => {
    const backend = await wasmBackend();
    const model = tinyModel(backend);
    const once = (): void => {
      run(model, [randomTokens(50)]).state.dispose();
    };
    once();
    const { liveBytes } = backend.memory();
    for (let i = 0; i < 5; i++) once();
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });
});
