// Learning rates by trials: which is tried next, a comparison that picks another than its default, and its resumption.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRandom } from "../core/random.ts";
import type { ModelReport, TuningTrial } from "../report/schema.ts";
import type { CompareResult, CompareSettings } from "./index.ts";
import { compare, learningRateOf } from "./index.ts";
import type { Comparison } from "./store-node.ts";
import { nextRate } from "./tuning-node.ts";

let folder = "";
let text = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-tuning-"));
  text = join(folder, "letters.txt");
  const random = createRandom(1);
  await writeFile(text, Array.from({ length: 8000 }, () => "abcd"[random.integer(4)]).join(""));
});
afterAll(() => rm(folder, { recursive: true }));

/** Of so small a model. */
const DEFAULT = learningRateOf("mamba", 1000);
const HIGHER = 3e-2;
const FAR_TOO_HIGH = 1e30;

/** Six steps, for which defaults are far too low; the last factor is far too high. */
const TINY: CompareSettings = {
  architectures: ["mamba", "lstm"],
  dModel: 16,
  layers: 1,
  length: 16,
  batch: 4,
  tokens: 384,
  evalTokens: 512,
  device: "wasm",
  threads: 1,
  learningRates: { lstm: 5e-3 },
  measurements: ["training"],
  tune: true,
  tuneShare: 0.5,
  tuneFactors: [1, HIGHER / DEFAULT, FAR_TOO_HIGH / DEFAULT],
};

function run(out: string, settings: CompareSettings, more: object = {}): Promise<CompareResult> {
  return compare({ settings, out: join(folder, out), ...more });
}

describe("nextRate", () => {
  const trials = (scores: Readonly<Record<number, number | undefined>>): TuningTrial[] =>
    Object.entries(scores).map(([rate, score]) => ({
      learningRate: Number(rate),
      what: "loss",
      ...(score === undefined ? { stopped: "NaN" } : { score }),
    }));

  it("takes the factors in turn, then goes on beyond an edge that is best, twice at the most", () => {
    expect(nextRate(0.003, [0.5, 1, 2], [])).toBe(0.0015);
    expect(nextRate(0.003, [0.5, 1, 2], trials({ 0.0015: 3, 0.003: 2 }))).toBe(0.006);
    expect(nextRate(0.003, [0.5, 1, 2], trials({ 0.0015: 3, 0.003: 2, 0.006: 2.5 }))).toBeUndefined();
    expect(nextRate(1, [1, 2], trials({ 1: 3, 2: 2 }))).toBe(4);
    expect(nextRate(1, [1, 2], trials({ 1: 3, 2: 2, 4: 1 }))).toBe(8);
    expect(nextRate(1, [1, 2], trials({ 1: 3, 2: 2, 4: 1, 8: 0 }))).toBeUndefined();
    expect(nextRate(1, [1, 2], trials({ 1: 2, 2: 3 }))).toBe(0.5);
  });

  it("takes a trial that diverged as worse than all, and goes down where all did", () => {
    expect(nextRate(1, [1, 2, 4], trials({ 1: 3, 2: 2, 4: undefined }))).toBeUndefined();
    expect(nextRate(1, [1, 2], trials({ 1: undefined, 2: undefined }))).toBe(0.5);
  });
});

describe("compare with tune", () => {
  it("trains with the best rate of the trials, leaves given rates alone, and repeats no trial when resumed", async () => {
    const { report } = await run("whole", { ...TINY, data: [text] });
    const [mamba, lstm] = report.models;
    expect([mamba.status, lstm.status, lstm.tuning, lstm.recipe.learningRate]).toEqual([
      "done",
      "done",
      undefined,
      5e-3,
    ]);
    const tuning = mamba.tuning!;
    expect(tuning.map(({ learningRate, score }) => [learningRate, score === undefined])).toEqual([
      [DEFAULT, false],
      [HIGHER, false],
      [FAR_TOO_HIGH, true],
    ]);
    expect(tuning[0].score).toBeGreaterThan(tuning[1].score!);
    expect(tuning[2]).toMatchObject({ what: "held-out loss, nats per token" });
    expect(mamba.recipe.learningRate).toBe(HIGHER);
    const trained = await readFile(join(folder, "whole", "runs", "mamba", "last", "training.json"), "utf8");
    expect(JSON.parse(trained)).toMatchObject({ step: 6, recipe: { learningRate: HIGHER } });
    expect(report.recipe.learningRates).toContain("trials of 0.5 of the tokens");
    expect(await readdir(join(folder, "whole", "runs", "mamba"))).not.toContain("trials");

    const stop = new AbortController();
    const onProgress = ({ note }: { note: string }): unknown =>
      note.startsWith(`learning rate ${HIGHER}`) && stop.abort();
    const broken = await run("broken", { ...TINY, data: [text] }, { signal: stop.signal, onProgress });
    expect([broken.stopped, broken.report.models[0].status]).toEqual([true, "pending"]);
    const kept = JSON.parse(await readFile(join(folder, "broken", "compare.json"), "utf8")) as Comparison;
    expect(kept.trials!.mamba).toEqual(tuning.slice(0, 1));
    const notes: string[] = [];
    const resumed = await run(
      "broken",
      {},
      { resume: true, onProgress: ({ note }: { note: string }) => notes.push(note) },
    );
    expect(notes.filter((note) => note.startsWith(`learning rate ${DEFAULT}`))).toEqual([]);
    const timeless = (models: readonly ModelReport[]): unknown =>
      models.map(({ tuning, recipe, training }) => [tuning, recipe, training!.curve.map(({ lossNats }) => lossNats)]);
    expect(timeless(resumed.report.models)).toEqual(timeless(report.models));
  });

  it("tunes each size of a sweep, and tells of rates at which nothing trains", async () => {
    const { dModel: _, layers: __, tokens: ___, ...rest } = TINY;
    const architectures = ["lstm"];
    const task = { task: "parity", taskOptions: { target: "each" } } as const;
    const sweep = { ...task, sweep: [20_000, 40_000], tokensPerParameter: 0.01, architectures, learningRates: {} };
    const found = await run("sweep", { ...rest, ...sweep, tuneFactors: [1, 1e32] });
    const rates = found.report.notes!.filter((note) =>
      /^Of the sweep, lstm \d+K has the learning rate 0\.\d+ \(loss on fresh examples, nats per token: /.test(note),
    );
    expect(rates).toHaveLength(2);
    const none = await run("none", { ...TINY, ...task, architectures: ["mamba"], tuneFactors: [1e32, 1e33] });
    expect(none.report.models[0]).toMatchObject({
      status: "failed",
      reason: expect.stringMatching(
        /^tuning: compare: training mamba fails at each of the learning rates 1\.2e\+30, .*(NaN|Infinity)/,
      ),
    });
  });

  it.each([
    [{ tune: true, tuneFactors: [1] }, /tuneFactors must be two or more different numbers above 0, got 1\./],
    [{ tune: true, tuneShare: 1.5 }, /tuneShare must be a share above 0 and at most 1, got 1\.5/],
    [{ tune: false }, /say how learning rates are tuned; give tune, too/],
  ])("refuses %o", async (settings, message) => {
    await expect(run("refused", { ...TINY, data: [text], ...settings })).rejects.toThrow(message);
  });
});
