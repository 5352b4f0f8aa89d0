// The backends that tests run on: the reference, both builds of the WASM kernels, and a GPU where there is an adapter.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { ReferenceBackend } from "../../src/backends/reference/index.ts";
import type { WasmBuild } from "../../src/backends/wasm/index.ts";
import type { GpuOptions } from "../../src/backends/webgpu/index.ts";
import { findAdapter } from "../../src/backends/webgpu/adapter.ts";
import { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { WasmBackend } from "../../src/backends/wasm/index.ts";
// oxlint-disable-next-line import/no-unassigned-import -- changes how often Dawn polls
import "./poll-seldom.js";

/** The oracle. */
export const reference: Backend = new ReferenceBackend();

const made: Backend[] = [];

/** A WASM backend that ends with the test file. */
export async function wasmBackend(build: WasmBuild = "relaxed", threads = 2): Promise<WasmBackend> {
  const backend = await WasmBackend.create({ build, threads });
  made.push(backend);
  return backend;
}

const DRIVERS = "/usr/share/vulkan/icd.d";

/**
 * Tests run on Mesa's software adapter where it is installed, so that they are the same on every machine; with
 * MAMBA_TEST_GPU set, on what the system's drivers offer.
 */
function chooseDriver(): void {
  if (process.env.MAMBA_TEST_GPU !== undefined || !existsSync(DRIVERS)) return;
  const lavapipe = readdirSync(DRIVERS).find((name) => /^lvp_icd.*\.json$/.test(name));
  if (!lavapipe) return;
  process.env.VK_DRIVER_FILES ??= join(DRIVERS, lavapipe);
  // It compiles each kernel for the processor, for a second or more, and runs it for a moment: no optimisation pays.
  process.env.GALLIVM_PERF ??= "nopt";
}

chooseDriver();

/** A GPU backend that ends with the test file. */
export async function gpuBackend(options: GpuOptions = {}): Promise<WebGpuBackend> {
  const backend = await WebGpuBackend.create(options);
  made.push(backend);
  return backend;
}

const absence = process.env.REQUIRE_WEBGPU === "1" ? undefined : await whyNoAdapter();

/**
 * Whether tests on a GPU run: where an adapter is found, software ones too. CI requires one (REQUIRE_WEBGPU=1); elsewhere
 * its tests are skipped, and say so: see {@link onGpu}.
 */
export const hasGpu: boolean = absence === undefined;

/** The name of a test or group that needs a GPU; where there is none, with the reason why it is skipped. */
export function onGpu(name: string): string {
  return hasGpu ? name : `${name} (skipped: ${absence})`;
}

async function whyNoAdapter(): Promise<string | undefined> {
  try {
    await findAdapter();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

afterAll(() => {
  for (const backend of made) backend.dispose();
});
