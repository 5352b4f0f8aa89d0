// From a budget to sizes: near the budget, and of a usual shape.
import { describe, expect, it } from "vitest";
import { ConfigError } from "../core/errors.ts";
import { ARCHITECTURES, countParameters } from "../models/architectures.ts";
import { withTokens } from "./plan.ts";
import { LEARNING_RATES, learningRateOf } from "./recipes.ts";
import { chooseSizes, sizesOf, TOLERANCE } from "./sizes.ts";

const VOCABULARY = 256;

describe("chooseSizes", () => {
  it.each(ARCHITECTURES.map(({ name }) => name))("%s: within 3 % of each budget", (name) => {
    for (const budget of [1e6, 3e6, 1e7]) {
      const { sizes, parameters, activeParameters } = chooseSizes(name, budget, VOCABULARY);
      expect(Math.abs((activeParameters ?? parameters) / budget - 1)).toBeLessThan(TOLERANCE);
      expect(parameters).toBe(countParameters(name, { ...sizes, vocabSize: VOCABULARY }));
      expect(sizes.dModel % 16).toBe(0);
    }
  });

  it("gives Mamba about twice the layers of a Transformer of its width", () => {
    for (const budget of [1e6, 1e7, 1e8]) {
      const [mamba, transformer] = ["mamba", "transformer"].map((name) => chooseSizes(name, budget, VOCABULARY).sizes);
      const layersAt = (width: number): number => 4 * (width / 64) ** 0.53;
      expect(mamba.nLayer / layersAt(mamba.dModel)).toBeGreaterThan(1);
      expect(mamba.nLayer / layersAt(mamba.dModel)).toBeLessThan(4.2);
      expect(transformer.nLayer / layersAt(transformer.dModel)).toBeLessThan(2.1);
    }
  });

  it("counts what one token uses of a mixture against the budget", () => {
    const { sizes, parameters, activeParameters } = sizesOf("mamba-moe", { dModel: 32, nLayer: 2 }, VOCABULARY);
    const expert = 3 * 32 * 96;
    expect(parameters - activeParameters!).toBe(2 * 6 * expert);
    expect(sizes).toEqual({ dModel: 32, nLayer: 2 });
  });

  it("refuses a budget that no model meets", () => {
    expect(() => chooseSizes("mamba", 5000, VOCABULARY)).toThrow(ConfigError);
    expect(() => chooseSizes("transformer", 1e6, 50_280)).toThrow(/Give a larger budget/);
  });
});

it("every architecture has a learning rate, which falls with its size", () => {
  for (const { name } of ARCHITECTURES) expect(LEARNING_RATES[name]).toBeDefined();
  expect(learningRateOf("mamba", 1e6)).toBe(6e-3);
  expect(learningRateOf("transformer", 1e8)).toBeLessThan(learningRateOf("transformer", 1e6));
});

it("tokens are rounded to whole steps", () => {
  const how = { batch: 2, sequence: 16 } as Parameters<typeof withTokens>[2];
  expect(withTokens({} as Parameters<typeof withTokens>[0], 100, how)).toEqual({ steps: 3, tokens: 96 });
});
