// Settings of a task's run from flags; and a length that a model cannot hold.
import { describe, expect, it } from "vitest";
import { reference } from "../../../../test/support/backends.ts";
import { tinyModel } from "../../../../test/support/tiny-model.ts";
import { BackendError, ConfigError, UsageError } from "../../../core/errors.ts";
import { createTask } from "../../../data/index.ts";
import { examine, tableOf } from "./examine.ts";
import type { TaskFlags } from "./settings.ts";
import { planTaskRun } from "./settings.ts";

describe("planTaskRun", () => {
  it("fills in the defaults, those of the task among them", async () => {
    const { settings, task, lengths } = await planTaskRun("induction-heads", {});
    expect(settings).toMatchObject({ model: "mamba", curriculum: [256], weightDecay: 0, schedule: "constant" });
    expect(settings.taskOptions).toEqual({ vocab: 16 });
    expect(task.vocabSize).toBe(16);
    expect([lengths[0], lengths.at(-1), lengths.length]).toEqual([64, 2 ** 20, 15]);
  });

  it("ends the curriculum with the length to be learned", async () => {
    const stagesOf = async (flags: TaskFlags): Promise<readonly number[]> =>
      (await planTaskRun("parity", flags)).settings.curriculum;
    expect(await stagesOf({ curriculum: [8, 16], length: 32 })).toEqual([8, 16, 32]);
    expect(await stagesOf({ curriculum: [8, 16] })).toEqual([8, 16]);
    expect(await stagesOf({ length: 16, curriculum: [8, 16] })).toEqual([8, 16]);
  });

  it("takes options of the task and the model", async () => {
    const { settings } = await planTaskRun("mqar", { pairs: 4, modelOption: ["dState=32", 's4dInit="x=y"', "dMlp=8"] });
    expect(settings.taskOptions).toEqual({ vocab: 8192, pairs: 4 });
    expect(settings.modelOptions).toEqual({ dState: 32, s4dInit: "x=y", dMlp: 8 });
    expect((await planTaskRun("mqar", {})).settings.taskOptions).toEqual({ vocab: 8192 });
  });

  it.each<[string, TaskFlags, typeof ConfigError | typeof UsageError, RegExp]>([
    ["sorting", {}, ConfigError, /task must be one of selective-copying, .*, got "sorting"/],
    ["parity", { pairs: 3 }, ConfigError, /parity: there is no option pairs/],
    ["mqar", { lengths: [64, 7] }, ConfigError, /mqar: length must be even, got 7/],
    ["induction-heads", { length: 3 }, ConfigError, /length must be a whole number from 4/],
    ["parity", { curriculum: [64, 32] }, UsageError, /--curriculum must be ascending lengths up to --length \(32\)/],
    ["parity", { modelOption: ["dState"] }, UsageError, /--model-option must be name=value/],
    ["parity", { modelOption: ["dSate=3"] }, UsageError, /there is no option dSate. Did you mean dState\?/],
    ["parity", { resume: true }, UsageError, /--resume needs --out/],
    ["parity", { saveEvery: 5 }, UsageError, /--save-every needs --out/],
  ])("refuses %s with %j", async (name, flags, kind, message) => {
    await expect(planTaskRun(name, flags)).rejects.toThrow(message);
    await expect(planTaskRun(name, flags)).rejects.toThrow(kind);
  });
});

it("examine stops at a length that the model cannot hold, and says why", async () => {
  const model = tinyModel(reference, { vocabSize: 2, dModel: 4, nLayer: 1, dState: 1 });
  const forward = model.forward.bind(model);
  model.forward = (tokens, ...rest) => {
    if (tokens.shape[1] > 8) throw new BackendError("there is no memory left.");
    return forward(tokens, ...rest);
  };
  const signal = new AbortController().signal;
  const result = await examine(model, createTask("parity"), [4, 8, 16, 32], { examples: 2, seed: 0, signal });
  expect(result.accuracy.map(({ length }) => length)).toEqual([4, 8]);
  const error = "evaluateTask: parity at length 16: there is no memory left.";
  expect(result.stoppedAt).toEqual({ length: 16, error });
  expect(tableOf(result)).toMatch(/^length .*\n +4 .*\n +8 .*\n16: stopped, evaluateTask: parity at length 16: .*\n$/);
});
