// The learning rate: its corners, its middle, and what is refused.
import { describe, expect, it } from "vitest";
import { ConfigError } from "../core/errors.ts";
import { learningRateAt } from "./schedule.ts";

describe("learningRateAt", () => {
  const cosine = {
    schedule: "cosine",
    learningRate: 1e-3,
    steps: 110,
    warmupSteps: 10,
    minLearningRate: 1e-4,
  } as const;

  it("rises in a line to its peak, from the first step on", () => {
    expect(learningRateAt(1, cosine)).toBeCloseTo(1e-4, 12);
    expect(learningRateAt(5, cosine)).toBeCloseTo(5e-4, 12);
    expect(learningRateAt(10, cosine)).toBe(1e-3);
  });

  it("falls by a cosine to its floor at the last step, and stays there", () => {
    expect(learningRateAt(60, cosine)).toBeCloseTo((1e-3 + 1e-4) / 2, 12);
    expect(learningRateAt(35, cosine)).toBeCloseTo(1e-4 + 9e-4 * (1 + Math.SQRT1_2) * 0.5, 12);
    expect(learningRateAt(110, cosine)).toBeCloseTo(1e-4, 12);
    expect(learningRateAt(500, cosine)).toBeCloseTo(1e-4, 12);
  });

  it("begins at its peak without warm-up, and has the recipe's floor", () => {
    const plain = { schedule: "cosine", learningRate: 1e-3, steps: 100 } as const;
    expect(learningRateAt(1, plain)).toBe(1e-3);
    expect(learningRateAt(100, plain)).toBeCloseTo(1e-5, 12);
    expect(learningRateAt(100, { ...plain, learningRate: 1e-6 })).toBeCloseTo(1e-6, 15);
  });

  it("stays after the warm-up when it is constant", () => {
    const constant = { schedule: "constant", learningRate: 2, steps: 10, warmupSteps: 4 } as const;
    expect([1, 2, 3, 4, 5, 10, 99].map((step) => learningRateAt(step, constant))).toEqual([0.5, 1, 1.5, 2, 2, 2, 2]);
  });

  it("works for a run of one step", () => {
    expect(learningRateAt(1, { schedule: "cosine", learningRate: 1, steps: 1, warmupSteps: 1 })).toBe(1);
  });

  it.each([
    [{ schedule: "linear" as "cosine" }, "schedule"],
    [{ learningRate: 0 }, "learningRate"],
    [{ learningRate: Number.NaN }, "learningRate"],
    [{ steps: 0 }, "steps"],
    [{ warmupSteps: 1.5 }, "warmupSteps"],
    [{ warmupSteps: 111 }, "warmupSteps must not exceed steps"],
    [{ minLearningRate: 2e-3 }, "minLearningRate"],
  ])("refuses %j", (change, field) => {
    expect(() => learningRateAt(1, { ...cosine, ...change })).toThrow(ConfigError);
    expect(() => learningRateAt(1, { ...cosine, ...change })).toThrow(field);
  });
});
