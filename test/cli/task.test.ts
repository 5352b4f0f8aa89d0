// mamba task: the list, a run from its first step to the table by length, and one that resumes.
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runJson, runMamba } from "./run-mamba.ts";

interface Record {
  command: string;
  device: string;
  settings: { curriculum: number[]; steps: number; taskOptions: object };
  step: number;
  tokens: number;
  learned: boolean;
  curve: { step: number; length: number; tokenAccuracy: number }[];
  accuracy: { length: number; examples: number; tokenAccuracy: number; sequenceAccuracy: number }[];
  stoppedAt: { length: number; error: string } | null;
}

const ON_CPU = ["--device", "wasm", "--threads", "1"];
const TINY = ["--d-model", "16", "--layers", "1", "--model-option", "dState=4", "--batch", "2", ...ON_CPU];

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-task-"));
});
afterAll(() => rm(folder, { recursive: true }));

const weights = (out: string): Promise<Buffer> => readFile(join(out, "last", "model.safetensors"));
const recordOf = async (out: string): Promise<Record> =>
  JSON.parse(await readFile(join(out, "task.json"), "utf8")) as Record;

describe("mamba task", () => {
  it("lists tasks and models", async () => {
    const { tasks, models } = await runJson<{ tasks: { name: string }[]; models: { name: string }[] }>([
      "task",
      "list",
    ]);
    expect(tasks.map(({ name }) => name)).toContain("selective-copying");
    expect(models.map(({ name }) => name)).toContain("mamba");
    const { stdout } = await runMamba(["task", "list"]);
    expect(stdout).toMatch(/\ninduction-heads .*--vocab\n/);
  });

  it("learns induction heads, lengths growing, and tells accuracy by length", async () => {
    const args = [
      "task",
      "run",
      "induction-heads",
      "--vocab",
      "8",
      "--d-model",
      "32",
      "--batch",
      "16",
      "--lr",
      "0.004",
    ];
    const how = [
      "--curriculum",
      "8",
      "--length",
      "12",
      "--eval-every",
      "100",
      "--lengths",
      "12,16",
      "--examples",
      "50",
    ];
    const out = join(folder, "learned");
    const result = await runJson<Record>([...args, ...how, "--stop-checks", "1", "--out", out, ...ON_CPU]);
    expect(result.settings.curriculum).toEqual([8, 12]);
    expect(result.learned).toBe(true);
    expect(result.step).toBeLessThan(10_000);
    expect(new Set(result.curve.map(({ length }) => length))).toEqual(new Set([8, 12]));
    expect(result.curve.at(-1)!.tokenAccuracy).toBeGreaterThanOrEqual(0.999);
    expect(result.accuracy.map(({ length, examples }) => [length, examples])).toEqual([
      [12, 50],
      [16, 50],
    ]);
    expect(result.accuracy[0].tokenAccuracy).toBeGreaterThan(0.9);
    expect(result).toMatchObject({ device: "wasm", stoppedAt: null });
    expect(result.command).toMatch(/^mamba task run induction-heads --vocab 8 /);
    // What is learned is not trained again, but may be examined at other lengths.
    const again = ["task", "run", "induction-heads", "--out", out, "--resume", "--lengths", "12", "--examples", "50"];
    const { step, curve, accuracy } = await runJson<Record>([...again, ...ON_CPU]);
    expect({ step, curve }).toEqual({ step: result.step, curve: result.curve });
    expect(accuracy.map(({ tokenAccuracy }) => tokenAccuracy)).toEqual([result.accuracy[0].tokenAccuracy]);
  });

  it("resumes to where a run without a break comes, with its settings", async () => {
    const [broken, whole] = [join(folder, "broken"), join(folder, "whole")];
    const run = (out: string, ...more: string[]): Promise<Record> =>
      runJson(["task", "run", "selective-copying", "--out", out, "--lengths", "8", "--examples", "4", ...more]);
    const settings = [...TINY, "--tokens", "3", "--length", "8", "--eval-every", "2", "--save-every", "2"];
    const [half, full] = await Promise.all([
      run(broken, ...settings, "--steps", "4"),
      run(whole, ...settings, "--steps", "6"),
    ]);
    expect(half).toMatchObject({ step: 4, tokens: 4 * 2 * 14, learned: false });
    expect((await readdir(broken)).sort()).toEqual(["last", "metrics.jsonl", "task.json"]);
    const resumed = await run(broken, "--resume", "--steps", "6", ...ON_CPU);
    expect(resumed.step).toBe(6);
    const points = ({ curve }: Record): unknown[] => curve.map(({ step, tokenAccuracy }) => [step, tokenAccuracy]);
    expect(points(resumed)).toEqual(points(full));
    expect(resumed.accuracy[0].tokenAccuracy).toBe(full.accuracy[0].tokenAccuracy);
    expect((await weights(broken)).equals(await weights(whole))).toBe(true);
    expect(await recordOf(broken)).toEqual(resumed);
    const held = await runJson<{ config: { dModel: number } }>(["inspect", join(broken, "last")]);
    expect(held.config.dModel).toBe(16);
    const again = ["task", "run", "selective-copying", "--out", broken, "--resume"];
    const { code, stderr } = await runMamba([...again, "--lr", "1"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/cannot resume .*: lr was 0\.002 and is 1 now/);
  });

  it("prints a table, and saves at Ctrl-C", async () => {
    const args = ["task", "run", "parity", "--length", "8", ...TINY];
    const { code, stdout, stderr } = await runMamba([...args, "--steps", "2", "--lengths", "8,16", "--examples", "2"]);
    expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^length {2}answers right {2}sequences right .*\n +8 .*\n +16 .*\n$/);
    expect(stderr).toMatch(/\nstep 2\/2 · length 8 · loss \d\.\d+ · [\d.]+ % of answers/);

    const out = join(folder, "stopped");
    const stopped = await runMamba([...args, "--steps", "1000000", "--stop-at", "0", "--out", out], {
      onStart: (child) => {
        let seen = "";
        const listen = (text: string): void => {
          seen += text;
          if (!seen.includes("step ")) return;
          child.stderr?.off("data", listen);
          child.kill("SIGINT");
        };
        child.stderr?.on("data", listen);
      },
    });
    expect({ code: stopped.code, stdout: stopped.stdout }).toEqual({ code: 130, stdout: "" });
    expect(await recordOf(out)).toMatchObject({ learned: false, accuracy: [] });
  });

  it.each([
    [["task", "run", "sorting"], 1, /task must be one of selective-copying, .*, got "sorting"/],
    [["task", "run", "parity", "--lengths", "64,x"], 2, /--lengths must be a whole number from 1 to .*, got "x"/],
    [["task", "run"], 2, /missing required argument 'task'/],
  ])("refuses %j", async (args, code, message) => {
    const result = await runMamba(args);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
  });
});
