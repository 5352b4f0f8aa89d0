// 200 devices in one process, one after the other, leave nothing behind; and Node ends by itself, without a crash, when a
// device was left open.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { hasGpu, onGpu } from "../support/backends.ts";

interface Report {
  readonly residentMebibytes: readonly number[];
  readonly seconds: number;
}

async function runDevices(...words: string[]): Promise<Report> {
  const script = fileURLToPath(new URL("./many-devices.ts", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", script, ...words]);
  return JSON.parse(stdout) as Report;
}

describe.skipIf(!hasGpu)(onGpu("devices of a process"), () => {
  it("200 in turn: memory does not grow", async () => {
    const { residentMebibytes } = await runDevices("200");
    expect(residentMebibytes).toHaveLength(200);
    // Each device held four buffers of 1 MiB; if one of them stayed, this would be 150.
    expect(residentMebibytes[199] - residentMebibytes[49]).toBeLessThan(75);
  });

  it("one that is left open neither keeps the process alive nor crashes it", async () => {
    expect((await runDevices("2", "leave")).residentMebibytes).toHaveLength(2);
  });
});
