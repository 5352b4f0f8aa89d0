// The synthetic tasks against their definitions: every token, every answer, and how they are distributed.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../../core/errors.ts";
import { createRandom } from "../../core/random.ts";
import type { Batch, BatchPosition, BatchSource } from "../batches.ts";
import { IGNORED } from "../batches.ts";
import { drawDistinct, drawWeighted } from "./draws.ts";
import type { SyntheticTask, TaskExample } from "./index.ts";
import { createTask, taskBatches, taskExample, TASKS } from "./index.ts";

function examples(task: SyntheticTask, length: number, count: number, seed = 1): TaskExample[] {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => taskExample(task, random, length));
}

/** Places of the answers. */
function asked({ targets }: TaskExample): number[] {
  return [...targets.keys()].filter((at) => targets[at] !== IGNORED);
}

function countsOf(values: Iterable<number>, bound: number): number[] {
  const counts = Array.from({ length: bound }, () => 0);
  for (const value of values) counts[value]++;
  return counts;
}

/** Whether counts of equally likely things are within six standard deviations of their mean. */
function expectUniform(counts: readonly number[]): void {
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  for (const count of counts) expect(Math.abs(count - mean)).toBeLessThan(6 * Math.sqrt(mean));
}

describe("drawDistinct", () => {
  it("draws every ordered choice equally often", () => {
    const random = createRandom(2);
    const counts = new Map<string, number>();
    for (let i = 0; i < 12_000; i++) {
      const key = drawDistinct(random, 4, 2).join();
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(12);
    expectUniform([...counts.values()]);
  });

  it("draws everything once when asked for all", () => {
    expect([...drawDistinct(createRandom(3), 100, 100).sort()]).toEqual([...Array(100).keys()]);
  });
});

it("drawWeighted draws one after the other in proportion to the weights that are left", () => {
  const random = createRandom(4);
  const counts = new Map<string, number>();
  const total = 20_000;
  for (let i = 0; i < total; i++) {
    const key = drawWeighted(random, Float64Array.of(1, 2, 5), 2).join();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const likely = {
    "0,1": (1 / 8) * (2 / 7),
    "0,2": (1 / 8) * (5 / 7),
    "1,0": (2 / 8) * (1 / 6),
    "1,2": (2 / 8) * (5 / 6),
  };
  for (const [key, p] of Object.entries({ ...likely, "2,0": (5 / 8) * (1 / 3), "2,1": (5 / 8) * (2 / 3) }))
    expect(Math.abs(counts.get(key)! - total * p)).toBeLessThan(6 * Math.sqrt(total * p));
});

describe("selective-copying", () => {
  it("puts the tokens into noise, markers behind, and asks for the tokens in order", () => {
    for (const example of examples(createTask("selective-copying"), 40, 50)) {
      const { tokens, targets } = example;
      expect(tokens).toHaveLength(40 + 32);
      const data = [...tokens.subarray(0, 56)].filter((token) => token !== 0);
      expect(data).toHaveLength(16);
      expect(data.every((token) => token >= 1 && token <= 14)).toBe(true);
      expect([...tokens.subarray(56)]).toEqual(Array.from({ length: 16 }, () => 15));
      expect(asked(example)).toEqual(Array.from({ length: 16 }, (_, i) => 56 + i));
      expect([...targets.subarray(56)]).toEqual(data);
    }
  });

  it("draws places and tokens uniformly", () => {
    const all = examples(createTask("selective-copying", { tokens: 3, vocab: 6 }), 7, 4000);
    expectUniform(
      countsOf(
        all.flatMap(({ tokens }) => [...tokens.subarray(0, 10).keys()].filter((i) => tokens[i])),
        10,
      ),
    );
    expectUniform(
      countsOf(
        all.flatMap(({ targets }) => [...targets.subarray(10)]),
        5,
      ).slice(1),
    );
  });
});

describe("induction-heads", () => {
  it("asks at the end for what followed the special token", () => {
    for (const example of examples(createTask("induction-heads"), 30, 200)) {
      const { tokens, targets } = example;
      const places = [...tokens.keys()].filter((at) => tokens[at] === 15);
      expect(places).toHaveLength(2);
      expect(places[0]).toBeLessThanOrEqual(26);
      expect(places[1]).toBe(29);
      expect(asked(example)).toEqual([29]);
      expect(targets[29]).toBe(tokens[places[0] + 1]);
      expect(tokens.every((token) => token !== 14)).toBe(true);
    }
  });

  it("draws the place and the tokens uniformly", () => {
    const all = examples(createTask("induction-heads"), 8, 6000);
    expectUniform(
      countsOf(
        all.map(({ tokens }) => tokens.indexOf(15)),
        5,
      ),
    );
    expectUniform(
      countsOf(
        all.map(({ targets }) => targets[7]),
        14,
      ),
    );
    expectUniform(
      countsOf(
        all.flatMap(({ tokens }) => [...tokens]).filter((token) => token < 14),
        14,
      ),
    );
  });

  it("works at its shortest length, and quickly at its longest", () => {
    const [short] = examples(createTask("induction-heads"), 4, 1);
    expect(short.tokens[0]).toBe(15);
    expect(short.targets[3]).toBe(short.tokens[1]);
    const [long] = examples(createTask("induction-heads"), 2 ** 20, 1);
    expect(long.targets[2 ** 20 - 1]).toBe(long.tokens[long.tokens.indexOf(15) + 1]);
  });
});

describe("mqar", () => {
  it("gives pairs, then each key once at an even gap, and asks for its value there", () => {
    const task = createTask("mqar", { vocab: 64, pairs: 6 });
    for (const example of examples(task, 40, 100)) {
      const { tokens, targets } = example;
      const [keys, values] = [0, 1].map((odd) => [...tokens.subarray(0, 12)].filter((_, i) => i % 2 === odd));
      expect(new Set(keys).size).toBe(6);
      expect(new Set(values).size).toBe(6);
      expect(keys.every((key) => key >= 1 && key < 32)).toBe(true);
      expect(values.every((value) => value >= 32 && value < 64)).toBe(true);
      const places = asked(example);
      expect(places).toHaveLength(6);
      expect(places.every((at) => at >= 12 && at % 2 === 0)).toBe(true);
      expect(new Set(places.map((at) => tokens[at]))).toEqual(new Set(keys));
      for (const at of places) expect(targets[at]).toBe(values[keys.indexOf(tokens[at])]);
    }
  });

  it("asks early more often than late, by the power law, and fills with all tokens", () => {
    const task = createTask("mqar", { vocab: 8, pairs: 1 });
    const all = examples(task, 10, 20_000);
    const weights = [1, 2, 3, 4].map((i) => i ** -0.99);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const counts = countsOf(
      all.map((example) => asked(example)[0] / 2 - 1),
      4,
    );
    for (const [i, count] of counts.entries()) {
      const mean = (20_000 * weights[i]) / total;
      expect(Math.abs(count - mean)).toBeLessThan(6 * Math.sqrt(mean));
    }
    expectUniform(
      countsOf(
        all.map(({ tokens }) => tokens[9]),
        8,
      ),
    );
  });

  it("takes a quarter of the length as pairs", () => {
    const [example] = examples(createTask("mqar"), 256, 1);
    expect(asked(example)).toHaveLength(64);
  });
});

describe("parity", () => {
  it("asks for the parity so far, or for the last", () => {
    const [each] = examples(createTask("parity"), 50, 1);
    let odd = 0;
    for (const [i, bit] of each.tokens.entries()) expect(each.targets[i]).toBe((odd ^= bit));
    const [end] = examples(createTask("parity", { target: "end" }), 50, 1);
    expect(end.tokens).toEqual(each.tokens);
    expect(asked(end)).toEqual([49]);
    expect(end.targets[49]).toBe(each.targets[49]);
  });
});

describe("modular-arithmetic", () => {
  /** The value of an expression by JavaScript's own rules of precedence, in whole numbers of any size. */
  function valueOf(tokens: Int32Array, modulus: bigint): number {
    const terms: bigint[] = [BigInt(tokens[0])];
    for (let i = 1; i + 1 < tokens.length; i += 2) {
      const [operator, number] = [tokens[i] - Number(modulus), BigInt(tokens[i + 1])];
      if (operator === 2) terms.push(terms.pop()! * number);
      else terms.push(operator === 0 ? number : -number);
    }
    const sum = terms.reduce((all, term) => all + term, 0n);
    return Number(((sum % modulus) + modulus) % modulus);
  }

  it("asks for the value after every number", () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 40 }), fc.constantFrom(2, 5, 7), (seed, length, modulus) => {
        const [example] = examples(createTask("modular-arithmetic", { modulus }), length, 1, seed);
        for (let i = 0; i < length; i++) {
          const isEquals = length % 2 === 0 && i === length - 1;
          const isNumber = i % 2 === 0;
          const at = example.tokens[i];
          if (isEquals) expect(at).toBe(modulus + 3);
          else if (isNumber) expect(at).toBeLessThan(modulus);
          else expect(at >= modulus && at < modulus + 3).toBe(true);
          const expected = valueOf(example.tokens.subarray(0, isNumber ? i + 1 : i), BigInt(modulus));
          expect(example.targets[i]).toBe(isNumber || isEquals ? expected : IGNORED);
        }
      }),
    );
  });

  it("knows the paper's examples", () => {
    // 1 + 2 * 3 = 2, 1 - 1 - 1 = 4, 0 * 1 + 4 * 3 - 2 = 0 (modulo 5)
    expect(valueOf(Int32Array.of(1, 5, 2, 7, 3), 5n)).toBe(2);
    expect(valueOf(Int32Array.of(1, 6, 1, 6, 1), 5n)).toBe(4);
    expect(valueOf(Int32Array.of(0, 7, 1, 5, 4, 7, 3, 6, 2), 5n)).toBe(0);
  });

  it("asks only at the end when told so", () => {
    for (const length of [9, 10]) {
      const [example] = examples(createTask("modular-arithmetic", { target: "end" }), length, 1);
      expect(asked(example)).toEqual([length - 1]);
    }
  });
});

describe("createTask", () => {
  it.each([
    ["copying", {}, /task must be one of selective-copying, .*, got "copying"/],
    ["induction-heads", { pairs: 3 }, /induction-heads: there is no option pairs\. It takes vocab\./],
    ["selective-copying", { vocab: 2 }, /vocab must be a whole number from 3 to/],
    ["selective-copying", { tokens: 1.5 }, /tokens must be a whole number from 1/],
    ["mqar", { vocab: 10, pairs: 5 }, /pairs must be a whole number from 1 to 4, got 5/],
    ["parity", { target: "all" as "each" }, /target must be each or end/],
    ["modular-arithmetic", { modulus: 1 }, /modulus must be a whole number from 2/],
  ])("refuses %s with %j", (name, options, message) => {
    expect(() => createTask(name, options)).toThrow(ConfigError);
    expect(() => createTask(name, options)).toThrow(message);
  });

  it.each([
    [createTask("induction-heads"), 3, /length must be a whole number from 4/],
    [createTask("mqar", { pairs: 4 }), 14, /length must be a whole number from 16/],
    [createTask("mqar", { vocab: 64 }), 130, /has 31 keys, and length 130 asks for 32/],
    [createTask("mqar"), 65, /length must be even/],
    [createTask("parity"), 0, /length must be a whole number from 1/],
    [createTask("selective-copying"), 2 ** 29, /length must be/],
  ])("refuses lengths that a task does not have", (task, length, message) => {
    expect(() => taskExample(task, createRandom(1), length)).toThrow(message);
  });

  it.each(TASKS.map((kind) => kind.name))(
    "%s keeps its ids below vocabSize, at the default and the least length",
    (name) => {
      const task = createTask(name);
      for (const length of [task.minLength, task.defaultLength]) {
        const [{ tokens, targets }] = examples(task, length, 1);
        expect(tokens).toHaveLength(task.sequenceLength(length));
        expect(tokens.every((token) => token >= 0 && token < task.vocabSize)).toBe(true);
        expect(targets.every((token) => token === IGNORED || (token >= 0 && token < task.vocabSize))).toBe(true);
        expect(targets.some((token) => token !== IGNORED)).toBe(true);
      }
      expect(task.testLengths(task.defaultLength)).toContain(task.defaultLength);
    },
  );
});

describe("taskBatches", () => {
  const take = (source: BatchSource, count: number): Batch[] => Array.from({ length: count }, () => source.next());
  const throughJson = (position: BatchPosition): BatchPosition => JSON.parse(JSON.stringify(position)) as BatchPosition;
  const task = createTask("selective-copying", { tokens: 4 });

  it("gives examples one after the other, each from a fresh state", () => {
    const batch = taskBatches(task, { batch: 3, length: 12, seed: 7 }).next();
    const random = createRandom(7);
    expect([batch.batch, batch.length]).toEqual([3, 20]);
    for (let row = 0; row < 3; row++) {
      const { tokens, targets } = taskExample(task, random, 12);
      expect(batch.tokens.subarray(row * 20, row * 20 + 20)).toEqual(tokens);
      expect(batch.targets.subarray(row * 20, row * 20 + 20)).toEqual(targets);
    }
    expect([...batch.documentStarts].map((start, i) => (start ? i : -1)).filter((i) => i >= 0)).toEqual([0, 20, 40]);
  });

  it("continues from a saved position, at the length it had", () => {
    const options = { batch: 2, length: 8, seed: 3 };
    const whole = taskBatches(task, options);
    take(whole, 3);
    whole.length = 16;
    const saved = throughJson(whole.position);
    const resumed = taskBatches(task, { ...options, position: saved });
    expect(resumed.position).toEqual(saved);
    expect(resumed.description).toBe(whole.description);
    expect(take(resumed, 3)).toEqual(take(whole, 3));
    expect(resumed.length).toBe(16);
  });

  it("refuses what it cannot give", () => {
    const options = { batch: 2, length: 8, seed: 3 };
    const source = taskBatches(task, options);
    expect(() => (source.length = 0)).toThrow(ConfigError);
    expect(source.length).toBe(8);
    expect(() => taskBatches(task, { ...options, batch: 0 })).toThrow(/batch must be a whole number/);
    expect(() => taskBatches(task, { ...options, length: 0 })).toThrow(ConfigError);
    const { position } = source;
    expect(() => taskBatches(task, { ...options, batch: 3, position })).toThrow(/same task, options and batch/);
    expect(() => taskBatches(createTask("selective-copying"), { ...options, position })).toThrow(ConfigError);
  });
});
