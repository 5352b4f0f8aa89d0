// The command line itself: help, version, and one clear line for whatever is given wrongly.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runMamba } from "./run-mamba.ts";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-usage-"));
  await writeFile(join(folder, "latin1.txt"), Uint8Array.of(0x66, 0xfc, 0x72));
  await writeFile(join(folder, "config.json"), '{"stepz": 3}');
  await writeFile(join(folder, "number.json"), '{"steps": "many"}');
});

afterAll(() => rm(folder, { recursive: true }));

it("prints its version and help with examples", async () => {
  const commands = ["generate", "eval", "train", "inspect", "convert", "doctor", "bench"];
  const [version, help, none, ...each] = await Promise.all(
    [["--version"], ["--help"], [], ...commands.map((name) => [name, "--help"])].map((args) => runMamba(args)),
  );
  expect(version).toMatchObject({ code: 0, stderr: "" });
  expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  for (const name of commands) expect(help.stdout).toContain(`\n  ${name} `);
  expect(none.stdout).toContain("Usage: mamba");
  for (const { code, stdout, stderr } of [help, ...each]) {
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/\nExamples:\n {2}\$ mamba /);
    // oxlint-disable-next-line no-control-regex -- no colours into a pipe
    expect(stdout).not.toMatch(/\u001B/);
  }
  for (const { stdout } of each) expect(stdout).toContain("--json");
});

const MISTAKES: [name: string, args: (folder: string) => string[], code: number, message: RegExp][] = [
  ["an unknown command", () => ["generat"], 2, /unknown command 'generat'.*Did you mean generate\?/],
  [
    "an unknown flag",
    () => ["generate", "--prompt", "x", "--temprature", "1"],
    2,
    /'--temprature'.*Did you mean --temperature\?/,
  ],
  [
    "a bad number",
    () => ["generate", "--prompt", "x", "--max-tokens", "many"],
    2,
    /--max-tokens must be a whole number from 0 on, got "many"/,
  ],
  [
    "a number out of range",
    () => ["generate", "--prompt", "x", "--top-p", "1.5"],
    2,
    /--top-p must be a number above 0 and at most 1, got "1.5"/,
  ],
  ["an unknown device", () => ["generate", "--prompt", "x", "--device", "gpu"], 2, /auto, webgpu, wasm, reference/],
  ["no prompt", () => ["generate"], 2, /needs one prompt, got none/],
  ["two prompts", () => ["generate", "--prompt", "x", "--prompt-file", "y"], 2, /needs one prompt, got 2/],
  ["a prompt without its flag", () => ["generate", "Hello"], 2, /Did you mean --prompt "Hello"/],
  ["an empty prompt", () => ["generate", "--prompt", ""], 1, /prompt is empty/],
  [
    "a missing prompt file",
    () => ["generate", "--prompt-file", "none.txt"],
    1,
    /--prompt-file none\.txt: there is no such file/,
  ],
  ["a missing option", () => ["eval"], 2, /--text/],
  [
    "a text that is not UTF-8",
    (at) => ["eval", "--text", join(at, "latin1.txt")],
    1,
    /latin1\.txt: the text must be UTF-8/,
  ],
  [
    "a missing model",
    (at) => ["eval", "--text", join(at, "config.json"), "--model", "no such"],
    1,
    /there is no folder "no such"/,
  ],
  ["a model that is a file", (at) => ["inspect", join(at, "config.json")], 1, /a checkpoint is a folder/],
  [
    "an unknown setting",
    (at) => ["train", "--config", join(at, "config.json"), "--out", "x"],
    1,
    /no setting "stepz"\. Did you mean "steps"\?/,
  ],
  [
    "a bad setting",
    (at) => ["train", "--config", join(at, "number.json"), "--out", "x"],
    1,
    /number\.json: steps must be a whole number from 1/,
  ],
  ["no data", () => ["train", "--out", "x"], 2, /needs --data/],
  ["nothing to resume", (at) => ["train", "--resume", "--out", join(at, "none")], 1, /there is no run to resume/],
  [
    "a bad list",
    () => ["bench", "--prompt-tokens", "16,x"],
    2,
    /--prompt-tokens must be a whole number from 1 to \d+, got "x"/,
  ],
  ["two models to measure", () => ["bench", "--shape", "tiny", "--model", "x"], 2, /cannot be used with/],
];

it.each(MISTAKES)("answers %s with one clear line", async (_, args, code, message) => {
  const result = await runMamba(args(folder));
  expect(result.stderr).toMatch(message);
  expect({ code: result.code, stdout: result.stdout }).toEqual({ code, stdout: "" });
  expect(result.stderr).toMatch(/^mamba: [^\n]+\n$/);
});
