// Opening a device by name: the reference, or WASM on the CPU's cores. A device is shared by all who ask for the same.
import { UsageError } from "../core/errors.ts";
import type { Backend } from "./backend.ts";
import { ReferenceBackend } from "./reference/index.ts";
import type { EngineOptions } from "./wasm/index.ts";
import { WasmBackend } from "./wasm/index.ts";

/** auto: the fastest that works here (wasm). */
export type Device = "auto" | "wasm" | "reference";

const open = new Map<string, Promise<Backend>>();

/**
 * The backend for a device; made at the first call for it (with these threads and this build), shared afterwards.
 * @throws UsageError for an unknown name, BackendError when this machine does not offer it
 */
export function openDevice(device: Device = "auto", options: EngineOptions = {}): Promise<Backend> {
  if (!["auto", "wasm", "reference"].includes(device))
    throw new UsageError(`device must be auto, wasm or reference, got "${device}".`);
  const key = device === "reference" ? device : JSON.stringify(["wasm", options.threads, options.build]);
  let backend = open.get(key);
  if (!backend) {
    backend = device === "reference" ? Promise.resolve(new ReferenceBackend()) : WasmBackend.create(options);
    open.set(key, backend);
    backend.catch(() => open.delete(key));
  }
  return backend;
}
