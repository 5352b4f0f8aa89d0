// Accuracy of models whose answers are known; and that it does not matter how sequences are cut.
import { describe, expect, it } from "vitest";
import { reference } from "../../test/support/backends.ts";
import type { Backend } from "../backends/backend.ts";
import { BackendError, ConfigError } from "../core/errors.ts";
import { createRandom } from "../core/random.ts";
import { createTask, IGNORED, taskBatch } from "../data/index.ts";
import type { ForwardOptions, ForwardResult, LanguageModel, ModelState } from "../nn/language-model.ts";
import { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensorFrom } from "../tensor/tensor.ts";
import { evaluateTask } from "./task-accuracy.ts";

const VOCAB = 16;

/** Counts the tokens it has read. */
class Counter implements ModelState {
  readonly batch: number;
  read = 0;
  isDisposed = false;

  constructor(batch: number) {
    this.batch = batch;
  }
  fork(): ModelState {
    return this;
  }
  select(indices: readonly number[]): ModelState {
    return new Counter(indices.length);
  }
  toArrays(): Promise<[]> {
    return Promise.resolve([]);
  }
  dispose(): void {
    this.isDisposed = true;
  }
}

/** Logits by a function of the token, its place, and the row; "last" gives those of the last token. */
class Told extends Module implements LanguageModel<Counter> {
  readonly config = { vocabSize: VOCAB, eosTokenId: undefined };
  readonly backend: Backend = reference;
  /** [batch, length, logits] of every call. */
  readonly calls: (readonly (number | string)[])[] = [];
  readonly states: Counter[] = [];
  readonly #answer: (token: number, place: number, row: number) => number;

  constructor(answer: (token: number, place: number, row: number) => number) {
    super();
    this.#answer = answer;
  }

  initialState(batch = 1): Counter {
    const state = new Counter(batch);
    this.states.push(state);
    return state;
  }
  stackStates(states: readonly Counter[]): Counter {
    return new Counter(states.length);
  }
  stateFrom(): Promise<Counter> {
    return Promise.resolve(new Counter(1));
  }
  forward(tokens: Tensor, state: Counter, { logits = "all" }: ForwardOptions = {}): ForwardResult<Counter> {
    const [batch, length] = tokens.shape;
    this.calls.push([batch, length, logits]);
    const ids = tokens.readNow();
    const from = logits === "last" ? length - 1 : 0;
    const values: number[] = [];
    for (let row = 0; row < batch; row++)
      for (let i = from; i < length; i++) {
        const answer = this.#answer(ids[row * length + i], state.read + i, row);
        for (let id = 0; id < VOCAB; id++) values.push(id === answer ? 2 : 0);
      }
    state.read += length;
    return { logits: tensorFrom(this.backend, values, [batch, length - from, VOCAB]), state };
  }
}

describe("evaluateTask", () => {
  it("counts right answers, and sequences of right answers", async () => {
    const task = createTask("selective-copying", { tokens: 3 });
    // The targets of the same examples, known beforehand; row 1 gets its second answer wrong.
    const { targets, length } = taskBatch(task, createRandom(9), { batch: 4, length: 10 });
    const model = new Told((_, place, row) => {
      const target = targets[row * length + place];
      return target === IGNORED ? 0 : row === 1 && place === length - 2 ? (target + 1) % VOCAB : target;
    });
    const result = await evaluateTask(model, task, { length: 10, examples: 4, seed: 9 });
    expect(result).toMatchObject({ length: 10, examples: 4, answers: 12 });
    expect(result.tokenAccuracy).toBe(11 / 12);
    expect(result.sequenceAccuracy).toBe(3 / 4);
    const sum = Math.log(Math.exp(2) + 15);
    expect(result.loss).toBeCloseTo((11 * (sum - 2) + sum) / 12, 6);
    expect(model.states.every(({ isDisposed }) => isDisposed)).toBe(true);
  });

  it("asks for logits only where there are answers, and reads no further than the last", async () => {
    const heads = createTask("induction-heads");
    const model = new Told(() => 0);
    await evaluateTask(model, heads, { length: 100, examples: 3, batch: 2, chunk: 32 });
    const chunks = [32, 32, 32, 4];
    expect(model.calls).toEqual([2, 1].flatMap((batch) => chunks.map((width) => [batch, width, "last"])));

    model.calls.length = 0;
    const recall = createTask("mqar", { vocab: VOCAB, pairs: 1 });
    const { targets } = taskBatch(recall, createRandom(0), { batch: 1, length: 1000 });
    const at = targets.findIndex((target) => target !== IGNORED);
    await evaluateTask(model, recall, { length: 1000, examples: 1, chunk: at });
    expect(model.calls).toEqual([
      [1, at, "last"],
      [1, 1, "last"],
    ]);
  });

  it("fills a call with short examples, and cuts long ones", async () => {
    const model = new Told(() => 0);
    const progress: number[] = [];
    await evaluateTask(model, createTask("parity"), {
      length: 6000,
      examples: 2,
      onProgress: ({ tokens, total }) => progress.push(tokens / total),
    });
    expect(model.calls).toEqual([1, 1].flatMap(() => [4096, 1904].map((width) => [1, width, "all"])));
    expect(progress.at(-1)).toBe(1);
    model.calls.length = 0;
    await evaluateTask(model, createTask("parity"), { length: 64, examples: 100 });
    expect(model.calls).toEqual([64, 36].map((batch) => [batch, 64, "all"]));
  });

  it("stops when the signal says so", async () => {
    const abort = new AbortController();
    const model = new Told(() => 0);
    const running = evaluateTask(model, createTask("parity"), {
      length: 100,
      examples: 1,
      chunk: 10,
      signal: abort.signal,
      onProgress: () => abort.abort(),
    });
    await expect(running).rejects.toThrow("aborted");
    expect(model.calls).toHaveLength(1);
    expect(model.states.every(({ isDisposed }) => isDisposed)).toBe(true);
  });

  it("says at which length a model failed", async () => {
    const task = createTask("parity");
    const failing = (error: Error): Told =>
      new Told((_, place) => {
        if (place >= 256) throw error;
        return 0;
      });
    const options = { length: 512, examples: 1, chunk: 128 };
    const full = evaluateTask(failing(new BackendError("webgpu: no memory.")), task, options);
    await expect(full).rejects.toThrow("evaluateTask: parity at length 512: webgpu: no memory.");
    await expect(full).rejects.toThrow(BackendError);
    await expect(evaluateTask(failing(new ConfigError("too long")), task, options)).rejects.toThrow(ConfigError);
    const host = evaluateTask(failing(new RangeError("Array buffer allocation failed")), task, options);
    await expect(host).rejects.toThrow(BackendError);
    await expect(evaluateTask(failing(new TypeError("a bug")), task, options)).rejects.toThrow(TypeError);
  });

  it("refuses what cannot be examined", async () => {
    const model = new Told(() => 0);
    const task = createTask("parity");
    await expect(evaluateTask(model, task, { length: 0, examples: 1 })).rejects.toThrow(ConfigError);
    await expect(evaluateTask(model, task, { length: 4, examples: 0 })).rejects.toThrow(/examples must be/);
    await expect(evaluateTask(model, task, { length: 4, examples: 1, chunk: 0 })).rejects.toThrow(/chunk must be/);
    const wide = createTask("parity", { vocab: 17 });
    await expect(evaluateTask(model, wide, { length: 4, examples: 1 })).rejects.toThrow(/the model knows 16 tokens/);
  });
});
