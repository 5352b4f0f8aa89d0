// mamba generate and mamba eval: what they print equals what the library gives.
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Mamba } from "../../src/mamba.ts";
import { runJson, runMamba, saveTinyModel } from "./run-mamba.ts";

interface Generated {
  text: string;
  promptTokens: number;
  tokens: number[];
  device: string;
  dtype: string;
  threads: number;
  timings: Record<string, number>;
  memory: { peakBytes: number };
}

const PROMPT = "Once upon a time";
const GREEDY = ["--temperature", "0", "--max-tokens", "12"];

let folder = "";
let model = "";
let mamba: Mamba;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-"));
  model = join(folder, "model");
  await saveTinyModel(model);
  mamba = await Mamba.load(model, { device: "wasm", threads: 1 });
});

afterAll(async () => {
  mamba.dispose();
  await rm(folder, { recursive: true });
});

const generate = (...args: string[]): string[] => [
  "generate",
  "--model",
  model,
  "--device",
  "wasm",
  "--threads",
  "1",
  ...args,
];

describe("mamba generate", () => {
  it("prints the documented JSON, with the library's greedy tokens", async () => {
    const expected = await mamba.complete(PROMPT, { temperature: 0, maxTokens: 12 });
    const result = await runJson<Generated>(generate("--prompt", PROMPT, ...GREEDY));
    expect(Object.keys(result)).toEqual([
      "text",
      "promptTokens",
      "tokens",
      "device",
      "threads",
      "build",
      "adapter",
      "dtype",
      "timings",
      "memory",
    ]);
    expect(Object.keys(result.timings)).toEqual([
      "loadMs",
      "prefillMs",
      "prefillTokensPerSecond",
      "decodeTokensPerSecond",
    ]);
    const { text, tokens, promptTokens, device, dtype, threads } = result;
    expect({ text, tokens, promptTokens }).toEqual({
      text: expected.text,
      tokens: expected.tokens,
      promptTokens: PROMPT.length,
    });
    expect({ device, dtype, threads }).toEqual({ device: "wasm", dtype: "f32", threads: 1 });
    expect(result.tokens).toHaveLength(12);
    expect(result.memory.peakBytes).toBeGreaterThan(20 * 2 ** 20);
    expect(result.memory.peakBytes).toBeLessThan(2 ** 32);
  });

  it("reads standard input, and prints the new text alone into a pipe", async () => {
    const expected = await mamba.complete(PROMPT, { temperature: 0, maxTokens: 12 });
    const runs = [
      generate("-", ...GREEDY),
      generate("--prompt", "-", ...GREEDY),
      generate("--prompt-file", "-", ...GREEDY),
    ];
    for (const { code, stdout, stderr } of await Promise.all(runs.map((args) => runMamba(args, { input: PROMPT })))) {
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toBe(`${expected.text}${expected.text.endsWith("\n") ? "" : "\n"}`);
    }
  });

  it("draws the same text from the same seed, another from another", async () => {
    const draw = (seed: string): Promise<Generated> =>
      runJson(generate("--prompt", PROMPT, "--seed", seed, "--max-tokens", "24", "--top-k", "50", "--dtype", "int8"));
    const [a, b, c] = await Promise.all([draw("-5"), draw("-5"), draw("6")]);
    expect(a.tokens).toEqual(b.tokens);
    expect(a.tokens).not.toEqual(c.tokens);
    expect(a.dtype).toBe("int8");
  });

  it("continues from a saved state as if it had not stopped", async () => {
    const state = join(folder, "half.state");
    const whole = await mamba.complete(PROMPT, { temperature: 0, maxTokens: 12 });
    await runJson(generate("--prompt", PROMPT.slice(0, 7), "--max-tokens", "0", "--state-out", state));
    const rest = await runJson<Generated>(generate("--prompt", PROMPT.slice(7), "--state-in", state, ...GREEDY));
    expect(rest.tokens).toEqual(whole.tokens);
  });

  it("stops at Ctrl-C with what there is, and writes the state", async () => {
    const state = join(folder, "interrupted.state");
    const { code, stdout, stderr } = await runMamba(
      generate("--prompt", PROMPT, "--max-tokens", "1000000000", "--state-out", state),
      { onStart: (child) => child.stdout?.once("data", () => child.kill("SIGINT")) },
    );
    expect(code).toBe(130);
    expect(stdout.length).toBeGreaterThan(0);
    expect(stderr.trim()).toBe("Stopping (once more to kill).");
    expect((await stat(state)).size).toBeGreaterThan(1000);
    expect((await readdir(folder)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  it("ends quietly when nobody reads on", async () => {
    const { code, stderr } = await runMamba(generate("--prompt", PROMPT, "--max-tokens", "1000000000"), {
      onStart: (child) => child.stdout?.once("data", () => child.stdout?.destroy()),
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });
});

describe("mamba eval", () => {
  it("prints the documented JSON, with the library's numbers", async () => {
    const text = "\uFEFFIt was a dark and stormy night – quite so.\r\n".repeat(8);
    const file = join(folder, "text.txt");
    await writeFile(file, text);
    const [whole, windows] = await Promise.all([
      runJson<Record<string, number>>(["eval", "--model", model, "--text", file, "--device", "wasm", "--threads", "1"]),
      runJson<Record<string, number>>([
        "eval",
        "--model",
        model,
        "--text",
        file,
        "--device",
        "wasm",
        "--threads",
        "1",
        "--window",
        "50",
      ]),
    ]);
    const numbers = ["tokens", "predictions", "nll", "perplexity", "bitsPerByte"];
    expect(Object.keys(whole)).toEqual([...numbers, "device", "threads", "build", "adapter", "dtype"]);
    expect(whole).toMatchObject({ ...(await mamba.evaluate(text)), device: "wasm", adapter: null });
    expect(windows).toMatchObject(await mamba.evaluate(text, { window: 50 }));
    expect(whole["tokens"]).toBe(new TextEncoder().encode(text).length);
    expect(windows["predictions"]).toBe(49 * Math.floor(whole["tokens"] / 50));
  });
});
