// Flags of mamba compare: numbers as people write them, names, and what --quick fills in.
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { UsageError } from "../../../core/errors.ts";
import type { CompareFlags } from "./flags.ts";
import { compareOptions, parseCount, QUICK, settingsOf } from "./flags.ts";

function flagsOf(text: string): CompareFlags {
  const command = new Command().exitOverride().configureOutput({ outputError: () => undefined });
  for (const option of compareOptions()) command.addOption(option);
  return command.parse(text.split(" "), { from: "user" }).opts();
}

describe("parseCount", () => {
  it.each([
    ["1M", 1_000_000],
    ["0.3m", 300_000],
    ["20k", 20_000],
    ["1.5B", 1_500_000_000],
    ["2^20", 2 ** 20],
    ["1e6", 1_000_000],
    ["512", 512],
  ])("%s", (text, value) => {
    expect(parseCount(text, "--tokens")).toBe(value);
  });

  it.each(["", "M", "1.5", "-1M", "2^", "0", "1X"])("refuses %j", (text) => {
    expect(() => parseCount(text, "--tokens")).toThrow(UsageError);
  });
});

describe("settingsOf", () => {
  it("takes lists and names", () => {
    const flags = flagsOf(
      "--data a b --architectures mamba,lstm --lr mamba=2e-3,lstm=0.01 --sweep 0.3M,1M --skip speed",
    );
    expect(settingsOf(flags)).toEqual({
      data: ["a", "b"],
      architectures: ["mamba", "lstm"],
      learningRates: { mamba: 2e-3, lstm: 0.01 },
      sweep: [300_000, 1_000_000],
      measurements: ["training", "quality", "extrapolation"],
    });
    expect(settingsOf(flagsOf("--task parity --task-option target=end --only prefill,decode"))).toEqual({
      task: "parity",
      taskOptions: { target: "end" },
      measurements: ["prefill", "decode"],
    });
  });

  it("takes how learning rates are tuned", () => {
    const flags = flagsOf("--data a --tune --tune-share 0.2 --tune-factors 0.25,1,4");
    expect(settingsOf(flags)).toEqual({ data: ["a"], tune: true, tuneShare: 0.2, tuneFactors: [0.25, 1, 4] });
  });

  it("--quick fills in what was not given, and takes a task where there are no texts", () => {
    expect(settingsOf(flagsOf("--quick"))).toMatchObject({ task: "induction-heads", parameters: QUICK.parameters });
    const text = settingsOf(flagsOf("--quick --data a --tokens 1k --architectures lstm"));
    expect(text).toMatchObject({ data: ["a"], tokens: 1000, architectures: ["lstm"], length: QUICK.length });
    expect(text.task).toBeUndefined();
    expect(settingsOf(flagsOf("--quick --data a --d-model 32 --layers 1")).parameters).toBeUndefined();
    expect(settingsOf(flagsOf("--quick --data a --minutes 1")).tokens).toBeUndefined();
  });

  it.each([
    ["--architectures mamba,transfromer", /there is no "transfromer"\. Did you mean transformer\?/],
    ["--only speeed", /there is no "speeed"\. Did you mean speed\?/],
    ["--lr mamba", /name=rate/],
    ["--tune-factors 1,0", /--tune-factors must be a number above 0, got "0"/],
    ["--task-option vocab", /must be name=value/],
    ["--quick --resume", /leave --quick out/],
  ])("refuses %s", (text, message) => {
    expect(() => settingsOf(flagsOf(text))).toThrow(message);
  });
});
