// mamba train: a run from flags, from a JSON file, resumed, and stopped by Ctrl-C.
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runJson, runMamba } from "./run-mamba.ts";

interface Trained {
  step: number;
  steps: number;
  tokens: number;
  loss: number;
  parameters: number;
  seed: number;
  evaluation: { loss: number; bitsPerByte: number };
  best: { step: number; loss: number };
  stopped: boolean;
}

const TINY = {
  dModel: 16,
  layers: 1,
  dState: 4,
  steps: 10,
  batch: 2,
  length: 16,
  seed: 5,
  evalEvery: 5,
  saveEvery: 5,
  device: "wasm",
  threads: 1,
};

let folder = "";
let data = "";
let flags: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-train-"));
  data = join(folder, "data.txt");
  await writeFile(data, "The quick brown fox jumps over the lazy dog.\n".repeat(40));
  flags = Object.entries(TINY).flatMap(([name, value]) => [
    `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
    String(value),
  ]);
});

afterAll(() => rm(folder, { recursive: true }));

const weights = (out: string): Promise<Buffer> => readFile(join(out, "last", "model.safetensors"));

describe("mamba train", () => {
  it("trains from flags, and resumes to where a run without a break comes", async () => {
    const [broken, whole] = [join(folder, "broken"), join(folder, "whole")];
    const train = (out: string, ...more: string[]): Promise<Trained> =>
      runJson(["train", "--data", data, "--out", out, "--schedule", "constant", ...flags, ...more]);
    const [half, full] = await Promise.all([train(broken), train(whole, "--steps", "20", "--warmup", "1")]);
    expect(half).toMatchObject({ step: 10, steps: 10, seed: 5, tokens: 10 * 2 * 16, stopped: false });
    expect(half.evaluation.bitsPerByte).toBeGreaterThan(0);
    expect((await readdir(broken)).sort()).toEqual(["best", "last", "metrics.jsonl"]);
    const resumed = await runJson<Trained>([
      "train",
      "--resume",
      "--out",
      broken,
      "--steps",
      "20",
      "--device",
      "wasm",
      "--threads",
      "1",
    ]);
    expect(resumed).toMatchObject({ step: 20, loss: full.loss, stopped: false });
    expect((await weights(broken)).equals(await weights(whole))).toBe(true);
    const { tokens } = await runJson<{ tokens: number[] }>([
      "generate",
      "--model",
      join(broken, "best"),
      "--prompt",
      "The",
      "--max-tokens",
      "3",
    ]);
    expect(tokens).toHaveLength(3);
  });

  it("trains from a JSON file, which flags overrule, and tells of itself", async () => {
    const config = join(folder, "run.json");
    const out = join(folder, "from-json");
    await writeFile(config, JSON.stringify({ ...TINY, data: [data], evalFraction: 0, evalEvery: undefined, seed: 9 }));
    const { code, stdout, stderr } = await runMamba([
      "train",
      "--config",
      config,
      "--out",
      out,
      "--steps",
      "2",
      "--log-every",
      "1",
    ]);
    expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    expect(stderr).toMatch(/^mamba\.ts \d.*wasm \w+ ×1 · seed 9\nmodel: [\d,]+ parameters, \{"dModel":16/);
    expect(stderr).toMatch(/\nstep 1\/2 · loss \d\.\d+ · .* tokens\/s · .* left\nstep 2\/2/);
    expect(stdout).toMatch(/^2 steps, 64 tokens in .*, loss \d\.\d+\nTry it: mamba generate --model .*last/);
  });

  it("saves and exits with 130 at Ctrl-C, and refuses to begin anew there", async () => {
    const out = join(folder, "stopped");
    const args = ["train", "--data", data, "--out", out, ...flags, "--steps", "1000000", "--save-every", "1000000"];
    const { code, stdout, stderr } = await runMamba(args, {
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
    expect({ code, stderr: code === 130 ? "" : stderr }).toEqual({ code: 130, stderr: "" });
    expect(stdout).toContain(`continue with: mamba train --resume --out ${out}`);
    const { step } = JSON.parse(await readFile(join(out, "last", "training.json"), "utf8")) as { step: number };
    expect(step).toBeGreaterThan(0);
    const again = await runMamba(args);
    expect(again.code).toBe(2);
    expect(again.stderr).toMatch(/holds a run already\. Resume it/);
  });
});
