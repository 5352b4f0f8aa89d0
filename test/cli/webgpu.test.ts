// The commands on a GPU (a software adapter will do): the same numbers as on wasm, the adapter's name, a clean end.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasGpu } from "../support/backends.ts";
import { runJson, runMamba, saveTinyModel } from "./run-mamba.ts";

const TEXT = "It was a dark and stormy night, quite so.\n";

let folder = "";
let model = "";
let text = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-cli-webgpu-"));
  [model, text] = [join(folder, "model"), join(folder, "text.txt")];
  await saveTinyModel(model);
  await writeFile(text, TEXT.repeat(30));
});

afterAll(() => rm(folder, { recursive: true }));

interface Device {
  device: string;
  threads: number;
  build: string | null;
  adapter: string | null;
}

const onBoth = <T extends Device>(...args: string[]): Promise<[webgpu: T, wasm: T]> =>
  Promise.all([runJson<T>([...args, "--device", "webgpu"]), runJson<T>([...args, "--device", "wasm"])]);

describe.skipIf(!hasGpu)("on a GPU (skipped where there is no adapter)", () => {
  it("generates the same greedy tokens, and names the adapter", async () => {
    const args = ["generate", "--model", model, "--prompt", "Night", "--max-tokens", "12", "--temperature", "0"];
    const [webgpu, wasm] = await onBoth<Device & { tokens: number[] }>(...args);
    expect(webgpu.tokens).toEqual(wasm.tokens);
    expect(webgpu).toMatchObject({ device: "webgpu", threads: 1, build: null });
    expect(webgpu.adapter).toMatch(/\w/);
    expect(wasm).toMatchObject({ device: "wasm", adapter: null });
  });

  it("scores a text alike", async () => {
    const [webgpu, wasm] = await onBoth<Device & { nll: number }>("eval", "--model", model, "--text", text);
    expect(webgpu.nll).toBeCloseTo(wasm.nll, 4);
    expect(webgpu.device).toBe("webgpu");
  });

  it("trains alike", async () => {
    const sizes = ["--d-model", "16", "--layers", "1", "--d-state", "4", "--batch", "2", "--length", "16"];
    const args = ["train", "--data", text, ...sizes, "--steps", "3", "--seed", "5"];
    const [webgpu, wasm] = await Promise.all(
      ["webgpu", "wasm"].map((device) =>
        runJson<Device & { loss: number }>([...args, "--device", device, "--out", join(folder, device)]),
      ),
    );
    expect(webgpu.loss).toBeCloseTo(wasm.loss, 4);
    expect(webgpu).toMatchObject({ device: "webgpu", adapter: expect.stringMatching(/\w/) });
  });

  it("says that threads are of no use", async () => {
    const args = ["eval", "--model", model, "--text", text, "--device", "webgpu", "--threads", "2"];
    const { code, stderr } = await runMamba(args);
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/--threads is of the wasm device; webgpu does not use it\.\n/),
    });
  });

  it("stops at Ctrl-C", async () => {
    const args = ["generate", "--model", model, "--prompt", "Night", "--max-tokens", "1000000", "--device", "webgpu"];
    const { code, stdout } = await runMamba(args, {
      onStart: (child) => child.stdout!.once("data", () => child.kill("SIGINT")),
    });
    expect(code).toBe(130);
    expect(stdout).toMatch(/\n$/);
  });

  it("is examined by doctor", async () => {
    interface Op {
      op: string;
      isGood: boolean;
    }
    interface Diagnosis {
      isGood: boolean;
      webgpu: { features: Record<string, boolean>; paths: { path: string; precision: string; ops: Op[] }[] };
    }
    const { code, stdout } = await runMamba(["doctor", "--device", "webgpu", "--json"]);
    const { isGood, webgpu } = JSON.parse(stdout) as Diagnosis;
    expect(webgpu.paths.flatMap(({ ops }) => ops.filter((op) => !op.isGood))).toEqual([]);
    expect({ code, isGood }).toEqual({ code: 0, isGood: true });
    const precisions = webgpu.features["shader-f16"] ? ["f32", "f16"] : ["f32"];
    expect(webgpu.paths.filter(({ path }) => path === "full").map(({ precision }) => precision)).toEqual(precisions);
  });
});

describe("without a GPU", () => {
  /** No Vulkan driver; on other systems there is no way to hide one. */
  const hidden = { env: { VK_DRIVER_FILES: "/nonexistent" } };

  it.skipIf(process.platform !== "linux")("says so in one message, and doctor is content", async () => {
    const { code, stdout, stderr } = await runMamba(["generate", "--prompt", "x", "--device", "webgpu"], hidden);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/mamba: webgpu: there is no GPU adapter here.*--device wasm\.\n$/);
    const doctor = await runMamba(["doctor", "--json", "--threads", "1"], hidden);
    expect(doctor.code).toBe(0);
    expect(JSON.parse(doctor.stdout)).toMatchObject({ auto: "wasm", webgpu: { problem: expect.any(String) } });
    expect((await runMamba(["doctor", "--device", "webgpu"], hidden)).code).toBe(1);
  });
});
