// A whole comparison at a tiny scale: its report, a stop and a resumption, what fails, a sweep.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRandom } from "../core/random.ts";
import { parseReport } from "../report/parse.ts";
import type { ModelReport, Report } from "../report/schema.ts";
import type { CompareResult, CompareSettings } from "./index.ts";
import { compare } from "./index.ts";

let folder = "";
let text = "";
let other = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-compare-"));
  const random = createRandom(1);
  const words = ["the ", "snake ", "keeps ", "what ", "it ", "needs, ", "and ", "forgets.\n"];
  const write = (count: number): string => Array.from({ length: count }, () => words[random.integer(8)]).join("");
  [text, other] = [join(folder, "words.txt"), join(folder, "other.txt")];
  await writeFile(text, write(1500));
  await writeFile(other, write(200));
});
afterAll(() => rm(folder, { recursive: true }));

const TINY: CompareSettings = {
  architectures: ["mamba", "mamba-none"],
  dModel: 16,
  layers: 1,
  length: 16,
  batch: 2,
  tokens: 320,
  maxLength: 64,
  maxBatch: 2,
  evalTokens: 512,
  pointSeconds: 30,
  device: "wasm",
  threads: 1,
};

function run(
  out: string,
  settings: CompareSettings,
  more: { resume?: boolean; signal?: AbortSignal } = {},
): Promise<CompareResult> {
  return compare({ settings, out: join(folder, out), command: "test", software: "test", ...more });
}

/** Everything but what time and machine decide. */
function timeless({ models }: Report): unknown {
  return models.map(({ training, speed, ...rest }) => ({
    ...rest,
    curve: training?.curve.map((point) => ({ ...point, seconds: 0 })),
    steps: training?.steps,
    speed: Object.entries(speed ?? {}).map(([kind, points]) => [
      kind,
      (points as { length?: number; batch?: number }[]).map((point) => point.length ?? point.batch),
    ]),
  }));
}

describe("compare", () => {
  it("trains, measures, writes a report; stopped within a training and between parts, it comes to the same", async () => {
    const data = { data: [text], heldOut: [text, other] };
    const { report, stopped } = await run("whole", { ...TINY, ...data });
    expect(stopped).toBe(false);
    const [mamba, none] = report.models;
    expect([mamba.status, none.status]).toEqual(["done", "done"]);
    expect(mamba.training).toMatchObject({ length: 16, batch: 2, steps: 10, tokens: 320 });
    expect(mamba.training!.curve.at(-1)).toMatchObject({ step: 10, tokens: 320 });
    expect(mamba.training!.curve.at(-1)!.evalLossNats).toBeLessThan(mamba.training!.curve[0].lossNats!);
    expect(mamba.quality!.evaluations.map(({ name }) => name)).toEqual(["words", "other"]);
    const before = mamba.quality!.lossByPosition!.map(({ position }) => position);
    expect([before[0], before[1], before.at(-1)! > 64]).toEqual([1, 2, true]);
    expect(mamba.extrapolation!.map(({ length }) => length)).toEqual([16, 32, 64]);
    expect(mamba.extrapolation![0].lossNats).toBeCloseTo(mamba.quality!.evaluations[0].lossNats!, 12);
    expect(mamba.speed!.prefill!.map(({ length, seconds }) => [length, seconds! > 0])).toEqual([[64, true]]);
    expect(mamba.speed!.batch!.map(({ batch }) => batch)).toEqual([1, 2]);
    const json = await readFile(join(folder, "whole", "report.json"), "utf8");
    expect(parseReport(json, "report.json")).toEqual(JSON.parse(JSON.stringify(report)));
    await readFile(join(folder, "whole", "index.html"), "utf8");

    const stop = new AbortController();
    const broken = await compare({
      settings: { ...TINY, ...data },
      out: join(folder, "broken"),
      signal: stop.signal,
      onProgress: ({ part, share }) => part === "mamba-none: training" && share >= 0.3 && stop.abort(),
    });
    expect(broken.stopped).toBe(true);
    expect(broken.report.models.map(({ status }) => status)).toEqual(["done", "pending"]);
    const parts: string[] = [];
    const resumed = await compare({
      settings: {},
      out: join(folder, "broken"),
      resume: true,
      onProgress: ({ part }) => parts.includes(part) || parts.push(part),
    });
    expect(parts[0]).toBe("mamba-none: training");
    expect(timeless(resumed.report)).toEqual(timeless(report));
    await expect(run("broken", { ...TINY, ...data })).rejects.toThrow(/holds a comparison already/);
    await expect(run("broken", { batch: 3 }, { resume: true })).rejects.toThrow(/batch was 2 and is 3 now/);
  });

  it("tells in its row what an architecture cannot do, and goes on", async () => {
    const settings: CompareSettings = {
      ...TINY,
      architectures: ["mamba", "lstm", "transformer"],
      dModel: undefined,
      layers: undefined,
      parameters: 16_000,
      data: [text],
      learningRates: { lstm: 1e30 },
      measurements: ["quality"],
    };
    const { report } = await run("failing", settings);
    const told = report.models.map(({ name, status, reason }: ModelReport) => [name, status, reason]);
    expect(told).toEqual([
      ["mamba", "skipped", expect.stringMatching(/mamba has no model of 16000 parameters .*: the nearest has/)],
      ["lstm", "failed", expect.stringMatching(/training: train: the .* is (NaN|Infinity) at step/)],
      ["transformer", "done", undefined],
    ]);
  });

  it("measures speed of models that were not trained, and says where texts are too short", async () => {
    const { report } = await run("speed", { ...TINY, data: [text], measurements: ["decode", "training-speed"] });
    expect(report.models.map(({ status, training }) => [status, training])).toEqual(
      Array.from({ length: 2 }, () => ["done", undefined]),
    );
    expect(report.models[0].speed!.training!.every(({ tokensPerSecond }) => tokensPerSecond! > 0)).toBe(true);
    const long = { length: 8000, architectures: ["mamba"], data: [other], measurements: ["training"] as const };
    const short = await run("short", { ...TINY, ...long });
    expect(short.report.models[0]).toMatchObject({
      status: "failed",
      reason: expect.stringMatching(/need at least 8001 tokens/),
    });
  });

  it("compares on a task, by length", async () => {
    const task = { task: "parity", taskOptions: { target: "end" }, architectures: ["mamba"] } as const;
    const { report } = await run("task", { ...TINY, ...task, measurements: ["extrapolation"] });
    expect(report.data).toMatchObject({ kind: "task", names: ["parity"], chance: 0.5, tokens: 320 });
    const lengths = report.models[0].extrapolation!.map(({ length, accuracy }) => [length, accuracy! >= 0]);
    expect(lengths).toEqual([16, 32, 64].map((length) => [length, true]));
    expect(report.models[0].training!.curve.at(-1)!.evalAccuracy).toBeGreaterThan(0.2);
  });

  it("sweeps over sizes", async () => {
    const { dModel: _, layers: __, ...rest } = TINY;
    const sweep = { sweep: [60_000, 30_000, 5_000], tokensPerParameter: 0.01, architectures: ["mamba-mlp", "lstm"] };
    const { report } = await run("sweep", { ...rest, ...sweep, data: [text] });
    expect(report.models).toEqual([]);
    const points = report.sweep!.points.map(({ architecture, tokens }) => [architecture, tokens]);
    expect(points).toEqual([
      ["mamba-mlp", 288],
      ["mamba-mlp", 608],
      ["lstm", 288],
      ["lstm", 608],
    ]);
    expect(report.notes!.filter((note) => note.startsWith("Of the sweep, lstm 5K is missing: "))).toHaveLength(1);
    expect(report.sweep!.rule).toBe("0.01 tokens a parameter");
  });
});
