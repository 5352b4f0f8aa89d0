// Settings of a training run from JSON and from flags.
import { describe, expect, it } from "vitest";
import { ConfigError, UsageError } from "../../../core/errors.ts";
import { parseSettings, readSettings, rememberedSettings, settingOptions } from "./read-settings.ts";
import { SETTINGS } from "./settings.ts";

describe("parseSettings", () => {
  it("takes every setting under its name", () => {
    const settings = { data: ["a.txt"], dModel: 64, lr: 1e-3, schedule: "constant", untied: true, seed: -1 };
    expect(parseSettings(JSON.stringify(settings), "run.json")).toEqual(settings);
  });

  it.each([
    ["{", /run\.json: is not JSON/],
    ["[]", /must hold one JSON object/],
    ['{"learningrate": 1}', /no setting "learningrate"\. There are data, /],
    ['{"d_model": 64}', /no setting "d_model"\. Did you mean "dModel"\?/],
    ['{"steps": 1.5}', /steps must be a whole number from 1 to \d+, got 1\.5/],
    ['{"lr": "fast"}', /lr must be a number above 0, got "fast"/],
    ['{"lr": null}', /lr must be a number above 0, got null/],
    ['{"untied": 1}', /untied must be true or false/],
    ['{"data": "a.txt"}', /data must be a list of paths/],
    ['{"schedule": "linear"}', /schedule must be one of cosine, constant/],
  ])("refuses %s", (json, message) => {
    expect(() => parseSettings(json, "run.json")).toThrow(ConfigError);
    expect(() => parseSettings(json, "run.json")).toThrow(message);
  });
});

describe("readSettings", () => {
  it("wants a folder and data, and no sizes for a model that exists", async () => {
    await expect(readSettings({ data: ["a"] }, undefined)).rejects.toThrow(/--out/);
    await expect(readSettings({ out: "o" }, undefined)).rejects.toThrow(/--data/);
    const both = readSettings({ out: "o", data: ["a"], model: "m", layers: 3 }, undefined);
    await expect(both).rejects.toThrow(UsageError);
    await expect(both).rejects.toThrow(/layers cannot be chosen for a model that exists/);
  });

  it("remembers what is computed, not where", () => {
    expect(rememberedSettings({ out: "o", resume: true, threads: 2, device: "auto", steps: 3, data: ["a"] })).toEqual({
      steps: 3,
      data: ["a"],
    });
  });
});

it("makes a flag of every setting", () => {
  const names = settingOptions().map((option) => option.attributeName());
  expect(names).toEqual(Object.keys(SETTINGS));
  expect(settingOptions().map(({ flags }) => flags)).toContain("--eval-every <n>");
});
