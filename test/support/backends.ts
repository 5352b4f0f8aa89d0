// The backends that tests run on: the reference, and both builds of the WASM kernels, one and several threads.
import { afterAll } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { ReferenceBackend } from "../../src/backends/reference/index.ts";
import type { WasmBuild } from "../../src/backends/wasm/index.ts";
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

afterAll(() => {
  for (const backend of made) backend.dispose();
});
