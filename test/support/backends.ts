// The backends that tests run on: the reference, both builds of the WASM kernels, and a GPU where there is an adapter.
import { existsSync } from "node:fs";
import { afterAll } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { ReferenceBackend } from "../../src/backends/reference/index.ts";
import type { WasmBuild } from "../../src/backends/wasm/index.ts";
import type { GpuOptions } from "../../src/backends/webgpu/index.ts";
import { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { WasmBackend } from "../../src/backends/wasm/index.ts";

/** The oracle. */
export const reference: Backend = new ReferenceBackend();

const made: Backend[] = [];

/** A WASM backend that ends with the test file. */
export async function wasmBackend(build: WasmBuild = "relaxed", threads = 2): Promise<WasmBackend> {
  const backend = await WasmBackend.create({ build, threads });
  made.push(backend);
  return backend;
}

/** Debian's software adapter; real GPUs come through the system's own drivers. */
const LAVAPIPE = "/usr/share/vulkan/icd.d/lvp_icd.json";
if (process.env.MAMBA_TEST_GPU === undefined && existsSync(LAVAPIPE)) process.env.VK_DRIVER_FILES ??= LAVAPIPE;

/** A GPU backend that ends with the test file. */
export async function gpuBackend(options: GpuOptions = {}): Promise<WebGpuBackend> {
  const backend = await WebGpuBackend.create(options);
  made.push(backend);
  return backend;
}

/**
 * Whether tests on a GPU run: where an adapter is found, software ones too. CI requires one (REQUIRE_WEBGPU=1); elsewhere
 * its tests are skipped, and say so.
 */
export const hasGpu: boolean = process.env.REQUIRE_WEBGPU === "1" || (await findsAdapter());

async function findsAdapter(): Promise<boolean> {
  try {
    (await WebGpuBackend.create()).dispose();
    return true;
  } catch {
    return false;
  }
}

afterAll(() => {
  for (const backend of made) backend.dispose();
});
