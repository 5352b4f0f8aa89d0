// Tests of token data and batches: every token where it belongs, positions that continue bit for bit, clear refusals.

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError, UsageError } from "../core/errors.ts";
import type { Batch, BatchPosition, BatchSource } from "./batches.ts";
import { evaluationWindows, randomWindows, streams } from "./batches.ts";
import type { TokenData } from "./token-data.ts";
import { joinDocuments, splitEvaluation } from "./token-data.ts";

/** Documents of the given lengths; token t of the whole is t, so that a value tells its place. */
function dataOf(...lengths: number[]): TokenData {
  let next = 0;
  return joinDocuments(
    lengths.map((length) => Array.from({ length }, () => next++)),
    100_000,
    next,
  );
}
const take = (source: BatchSource, count: number): Batch[] => Array.from({ length: count }, () => source.next());
const throughJson = (position: BatchPosition): BatchPosition => JSON.parse(JSON.stringify(position)) as BatchPosition;

describe("joinDocuments", () => {
  it("takes the smallest integers and marks documents, without empty ones", () => {
    const data = joinDocuments([[1, 2], [], [3]], 256, 3);
    expect(data.tokens).toEqual(Uint8Array.of(1, 2, 3));
    expect(data.documentStarts).toEqual(Int32Array.of(0, 2));
    expect(joinDocuments([[1]], 257, 1).tokens).toBeInstanceOf(Uint16Array);
    expect(joinDocuments([[1]], 65_537, 1).tokens).toBeInstanceOf(Int32Array);
    expect(() => joinDocuments([[]], 256, 0)).toThrow(DataError);
    expect(() => joinDocuments([[256]], 256, 0)).toThrow(DataError);
  });
});

describe("splitEvaluation", () => {
  it("takes the last part of every document", () => {
    const { train, evaluation } = splitEvaluation(dataOf(10, 20), 0.2);
    expect([...train.tokens]).toEqual([...Array(8).keys(), ...Array.from({ length: 16 }, (_, i) => 10 + i)]);
    expect([...evaluation.tokens]).toEqual([8, 9, 26, 27, 28, 29]);
    expect([...train.documentStarts, ...evaluation.documentStarts]).toEqual([0, 8, 0, 2]);
    expect([train.bytes, evaluation.bytes]).toEqual([24, 6]);
  });

  it("loses nothing", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 }),
        fc.double({ min: 0.1, max: 0.9, noNaN: true }),
        (lengths, fraction) => {
          const data = dataOf(20, ...lengths);
          const { train, evaluation } = splitEvaluation(data, fraction);
          expect([...train.tokens, ...evaluation.tokens].sort((a, b) => a - b)).toEqual([...data.tokens]);
        },
      ),
    );
  });

  it("refuses bad fractions and empty parts", () => {
    for (const fraction of [0, 1, -1, Number.NaN])
      expect(() => splitEvaluation(dataOf(10), fraction)).toThrow(UsageError);
    expect(() => splitEvaluation(dataOf(10), 0.01)).toThrow(DataError);
  });
});

/** The laws of a batch over data whose tokens are their places. */
function checkBatch(batch: Batch, data: TokenData): void {
  const starts = new Set(data.documentStarts);
  expect(batch.tokens.length).toBe(batch.batch * batch.length);
  for (let i = 0; i < batch.tokens.length; i++) {
    const at = batch.tokens[i];
    const isFirst = i % batch.length === 0;
    expect(at).toBe(isFirst ? at : batch.tokens[i - 1] + 1);
    expect(batch.targets[i]).toBe(starts.has(at + 1) ? -100 : at + 1);
    expect(batch.documentStarts[i]).toBe(starts.has(at) ? 1 : isFirst ? batch.documentStarts[i] : 0);
  }
}

describe("randomWindows", () => {
  it("gives windows with targets and document starts, fresh at their beginning", () => {
    const data = dataOf(7, 5, 30);
    for (const batch of take(randomWindows(data, { batch: 3, length: 8, seed: 1 }), 50)) {
      checkBatch(batch, data);
      for (let row = 0; row < 3; row++) expect(batch.documentStarts[row * 8]).toBe(1);
    }
  });

  it("reaches every place about equally often", () => {
    const counts = Array.from({ length: 11 }, () => 0);
    for (const { tokens } of take(randomWindows(dataOf(15), { batch: 10, length: 4, seed: 2 }), 1100)) {
      for (let row = 0; row < 10; row++) counts[tokens[row * 4]] += 1;
    }
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  it("continues bit for bit from a saved position, and only with the same data and shape", () => {
    const data = dataOf(100);
    const o = { batch: 2, length: 5, seed: 3 };
    const source = randomWindows(data, o);
    take(source, 7);
    const { position } = source;
    const rest = take(source, 5);
    expect(take(randomWindows(data, { ...o, seed: 99, position: throughJson(position) }), 5)).toEqual(rest);
    expect(() => randomWindows(data, { ...o, length: 6, position })).toThrow(ConfigError);
    expect(() => randomWindows(dataOf(101), { ...o, position })).toThrow(ConfigError);
    expect(() => streams(data, { ...o, position })).toThrow(ConfigError);
  });

  it("says what is missing when data is too short", () => {
    expect(() => randomWindows(dataOf(8), { batch: 1, length: 8, seed: 0 })).toThrow(
      /need at least 9 tokens, got 8.*shorter windows/,
    );
    expect(take(randomWindows(dataOf(9), { batch: 1, length: 8, seed: 0 }), 1)[0].tokens[0]).toBe(0);
    expect(() => randomWindows(dataOf(8), { batch: 0, length: 4, seed: 0 })).toThrow(UsageError);
  });
});

describe("streams", () => {
  it("reads every part in order, so that rows of one batch follow those of the last", () => {
    const data = dataOf(9, 40, 52);
    const source = streams(data, { batch: 3, length: 8 });
    const batches = take(source, 4);
    for (const [step, batch] of batches.entries()) {
      checkBatch(batch, data);
      for (let row = 0; row < 3; row++) {
        expect(batch.tokens[row * 8]).toBe(row * 32 + step * 8);
        const isStart = [...data.documentStarts].includes(batch.tokens[row * 8]);
        expect(batch.documentStarts[row * 8]).toBe(step === 0 || isStart ? 1 : 0);
      }
    }
    expect(take(source, 4)).toEqual(batches);
    expect(source.description).toContain("4 batches a pass");
  });

  it("continues bit for bit from a saved position", () => {
    const data = dataOf(50, 50);
    const source = streams(data, { batch: 2, length: 7 });
    take(source, 9);
    const { position } = source;
    expect(take(streams(data, { batch: 2, length: 7, position: throughJson(position) }), 9)).toEqual(take(source, 9));
    expect(() => streams(data, { batch: 2, length: 7, position: { ...position, step: -1 } as BatchPosition })).toThrow(
      ConfigError,
    );
  });

  it("says what is missing when data is too short", () => {
    expect(() => streams(dataOf(16), { batch: 2, length: 8 })).toThrow(
      /need at least 17 tokens, got 16.*fewer streams/,
    );
    expect(take(streams(dataOf(17), { batch: 2, length: 8 }), 2)).toHaveLength(2);
  });
});

describe("evaluationWindows", () => {
  it("gives windows without overlap, length - 1 predictions each, and drops the rest", () => {
    const tokens = Int32Array.from({ length: 23 }, (_, i) => i);
    const batches = [...evaluationWindows(tokens, 5, { batch: 3 })];
    expect(batches.map(({ batch, length }) => [batch, length])).toEqual([
      [3, 4],
      [1, 4],
    ]);
    expect([...batches[0].tokens]).toEqual([0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]);
    expect([...batches[1].targets]).toEqual([16, 17, 18, 19]);
    expect([...batches[0].documentStarts]).toEqual([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    expect([...evaluationWindows(tokens, 23)]).toHaveLength(1);
  });

  it("respects documents when given", () => {
    const [batch] = [...evaluationWindows([0, 1, 2, 3, 4, 5], 6, { documentStarts: Int32Array.of(0, 3) })];
    expect([...batch.targets]).toEqual([1, 2, -100, 4, 5]);
    expect([...batch.documentStarts]).toEqual([1, 0, 0, 1, 0]);
  });

  it("refuses windows that are too short or too long", () => {
    expect(() => [...evaluationWindows([1, 2, 3], 1)]).toThrow(UsageError);
    expect(() => [...evaluationWindows([1, 2, 3], 4)]).toThrow(/at least 4 tokens for one window, got 3/);
  });
});
