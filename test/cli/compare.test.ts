// mamba compare: from the command to a report on the disk, stopped by Ctrl-C and resumed.
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Report } from "../../src/report/schema.ts";
import { runJson, runMamba } from "./run-mamba.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-compare-"));
});
afterAll(() => rm(folder, { recursive: true }));

const ON_CPU = ["--device", "wasm", "--threads", "1"];
const TINY = ["--task", "parity", "--architectures", "mamba", "--d-model", "16", "--layers", "1", "--length", "8"];
const SHORT = ["--batch", "2", "--max-length", "16", "--max-batch", "1", "--eval-tokens", "64", "--skip", "speed"];

interface Summary {
  report: string;
  page: string;
  stopped: boolean;
  models: { name: string; status: string; accuracy: number | null }[];
  findings: string[];
}

describe("mamba compare", () => {
  it("stops at Ctrl-C, goes on with --resume, and writes a report", async () => {
    const out = join(folder, "report");
    const stopped = await runMamba(["compare", ...TINY, ...SHORT, ...ON_CPU, "--tokens", "1M", "--out", out], {
      onStart: (child) => {
        let seen = "";
        const listen = (text: string): void => {
          seen += text;
          if (!seen.includes("mamba: training")) return;
          child.stderr?.off("data", listen);
          setTimeout(() => child.kill("SIGINT"), 300);
        };
        child.stderr?.on("data", listen);
      },
    });
    expect(stopped.code).toBe(130);
    expect(stopped.stdout).toContain(`mamba compare --resume --out ${out}`);
    expect(await readdir(join(out, "runs", "mamba"))).toContain("last");
    const refused = await runMamba(["compare", "--resume", "--out", out, "--tokens", "2M"]);
    expect({ code: refused.code, stderr: refused.stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/tokens was 1000000 and is 2000000 now/),
    });
  });

  it("prints a summary, and leaves checkpoints that other commands load", async () => {
    const out = join(folder, "done");
    const args = ["compare", ...TINY, ...SHORT, ...ON_CPU, "--tokens", "160", "--out", out];
    const summary = await runJson<Summary>(args);
    expect(summary).toMatchObject({ stopped: false, page: join(out, "index.html") });
    expect(summary.models).toMatchObject([{ name: "mamba", status: "done" }]);
    const report = JSON.parse(await readFile(summary.report, "utf8")) as Report;
    expect(report.command).toMatch(/^mamba compare --task parity /);
    expect(report.models[0].extrapolation!.map(({ length }) => length)).toEqual([8, 16]);
    const held = await runJson<{ parameters: number }>(["inspect", join(out, "runs", "mamba", "last")]);
    expect(held.parameters).toBe(report.models[0].parameters);
    const again = await runMamba(args);
    expect([again.code, again.stderr]).toEqual([2, expect.stringMatching(/holds a comparison already/)]);
  });
});
