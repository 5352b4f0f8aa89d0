// Evaluation against sums written out, of a bigram model.
import { describe, expect, it } from "vitest";
import { reference } from "../../test/support/backends.ts";
import type { Backend } from "../backends/backend.ts";
import { ConfigError, DataError } from "../core/errors.ts";
import { createRandom } from "../core/random.ts";
import { Embedding } from "../nn/embedding.ts";
import type { ForwardResult, LanguageModel, ModelState } from "../nn/language-model.ts";
import { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensorFrom } from "../tensor/tensor.ts";
import { evaluate } from "./evaluate.ts";

const VOCAB = 5;

/** Remembers nothing. */
function emptyState(batch: number): ModelState {
  return {
    batch,
    fork: () => emptyState(batch),
    select: (indices) => emptyState(indices.length),
    toArrays: () => Promise.resolve([]),
    dispose: () => undefined,
  };
}

/** Logits of the next token by the last one alone. */
class Bigram extends Module implements LanguageModel {
  readonly config = { vocabSize: VOCAB, eosTokenId: undefined };
  readonly backend: Backend = reference;
  readonly table: Embedding = new Embedding(VOCAB, VOCAB);
  /** [batch, length] of every call. */
  readonly calls: (readonly number[])[] = [];

  initialState(batch = 1): ModelState {
    return emptyState(batch);
  }
  stackStates(states: readonly ModelState[]): ModelState {
    return emptyState(states.length);
  }
  stateFrom(): Promise<ModelState> {
    return Promise.resolve(emptyState(1));
  }
  forward(tokens: Tensor, state: ModelState): ForwardResult<ModelState> {
    this.calls.push(tokens.shape);
    return { logits: this.table.forward(tokens), state };
  }
}

const random = createRandom(3);
const logits = Array.from({ length: VOCAB * VOCAB }, () => random.normal());
const tokens = Array.from({ length: 47 }, () => random.integer(VOCAB));

function bigram(table: readonly number[] = logits): Bigram {
  const model = new Bigram();
  model.table.weight.assign(tensorFrom(reference, table, [VOCAB, VOCAB]));
  return model;
}

/** -log p(tokens[at] | tokens[at - 1]). */
function nats(at: number): number {
  const row = logits.slice(tokens[at - 1] * VOCAB, (tokens[at - 1] + 1) * VOCAB);
  return Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - row[tokens[at]];
}

describe("evaluate", () => {
  it("scores each window on its own, and drops the last partial one", async () => {
    const result = await evaluate(bigram(), tokens, { window: 10, bytes: 94 });
    let sum = 0;
    for (let at = 0; at < 40; at++) if (at % 10 > 0) sum += nats(at);
    expect(result.tokens).toBe(47);
    expect(result.predictions).toBe(36);
    expect(result.nll).toBeCloseTo(sum / 36, 12);
    expect(result.perplexity).toBeCloseTo(Math.exp(sum / 36), 10);
    // 36 of 47 tokens of two bytes each.
    expect(result.bitsPerByte).toBeCloseTo(sum / Math.LN2 / (94 * (36 / 47)), 12);
  });

  it.each([{}, { window: 10, carryState: true }])("scores the whole text but its first token: %j", async (how) => {
    const result = await evaluate(bigram(), tokens, { ...how, bytes: 47 });
    let sum = 0;
    for (let at = 1; at < 47; at++) sum += nats(at);
    expect(result.predictions).toBe(46);
    expect(result.nll).toBeCloseTo(sum / 46, 12);
    expect(result.bitsPerByte).toBeCloseTo(sum / 46 / Math.LN2, 12);
  });

  it("puts windows side by side, and cuts long texts into chunks", async () => {
    const model = bigram();
    await evaluate(model, tokens, { window: 10, bytes: 1, batch: 3 });
    expect(model.calls).toEqual([
      [3, 9],
      [1, 9],
    ]);
    model.calls.length = 0;
    const long = Array.from({ length: 2500 }, (_, i) => i % VOCAB);
    const seen: number[] = [];
    const result = await evaluate(model, long, { bytes: 1, onProgress: ({ predictions }) => seen.push(predictions) });
    expect(model.calls).toEqual([
      [1, 1024],
      [1, 1024],
      [1, 451],
    ]);
    expect(seen).toEqual([1024, 2048, 2499]);
    expect(result.predictions).toBe(2499);
  });

  it("stops when the signal says so", async () => {
    const model = bigram();
    const abort = new AbortController();
    const long = Array.from({ length: 5000 }, () => 0);
    const running = evaluate(model, long, { bytes: 1, signal: abort.signal, onProgress: () => abort.abort() });
    await expect(running).rejects.toThrow("aborted");
    expect(model.calls).toHaveLength(1);
  });

  it("refuses what cannot be scored", async () => {
    const model = bigram();
    await expect(evaluate(model, tokens, { window: 48, bytes: 1 })).rejects.toThrow(/at least 48 tokens, got 47/);
    await expect(evaluate(model, [1], { bytes: 1 })).rejects.toThrow(DataError);
    await expect(evaluate(model, tokens, { window: 1, bytes: 1 })).rejects.toThrow(ConfigError);
    await expect(evaluate(model, tokens, { bytes: 0 })).rejects.toThrow(ConfigError);
    await expect(evaluate(model, tokens, { batch: 0, bytes: 1 })).rejects.toThrow(ConfigError);
    await expect(evaluate(bigram(logits.map(() => Number.NaN)), tokens, { bytes: 1 })).rejects.toThrow(/loss is NaN/);
  });
});
