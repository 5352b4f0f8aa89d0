// Runs the built command (dist/cli/main.js) as a child process, and makes the tiny model that the tests give to it.
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Mamba } from "../../src/mamba.ts";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const PRELOADED = ["--import", new URL("../support/poll-seldom.js", import.meta.url).href];

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Text for standard input; without it there is none. */
  input?: string | Uint8Array;
  env?: Record<string, string>;
  /** Called when the process runs, for those who send it signals. */
  onStart?: (child: ChildProcess) => void;
}

/** Runs `mamba ...args` to its end. */
export function runMamba(args: readonly string[], { input, env, onStart }: RunOptions = {}): Promise<Finished> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: run "npm run build" first, as "npm test" does.`);
  const child = spawn(process.execPath, [...PRELOADED, MAIN, ...args], { env: { ...process.env, ...env } });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input ?? "");
  onStart?.(child);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
}

/** Runs a command that must succeed with JSON, and parses that. */
export async function runJson<T>(args: readonly string[], options?: RunOptions): Promise<T> {
  const { code, stdout, stderr } = await runMamba([...args, "--json"], options);
  if (code !== 0) throw new Error(`mamba ${args.join(" ")} exited with ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** A model of bytes with random weights, saved to a folder. */
export async function saveTinyModel(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const mamba = await Mamba.create({ dModel: 32, nLayer: 2, dState: 8 }, { seed: 3, threads: 1 });
  await mamba.save(folder);
  mamba.dispose();
}
