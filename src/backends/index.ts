// Opening a device by name. A device is shared by all who ask for the same.
import { UsageError } from "../core/errors.ts";
import type { Backend } from "./backend.ts";
import { ReferenceBackend } from "./reference/index.ts";
import type { EngineOptions } from "./wasm/index.ts";
import { WasmBackend } from "./wasm/index.ts";
import { hasRealGpu } from "./webgpu/adapter.ts";
import { WebGpuBackend } from "./webgpu/index.ts";

/** auto: the fastest that works here: webgpu where there is a real GPU, else wasm. */
export type Device = "auto" | "webgpu" | "wasm" | "reference";

/** All values of {@link Device}. */
export const DEVICES: readonly Device[] = ["auto", "webgpu", "wasm", "reference"];

const open = new Map<string, Promise<Backend>>();

/**
 * The backend for a device; made at the first call for it (with these threads and this build), shared afterwards. A GPU
 * that was lost is opened anew.
 * @throws UsageError for an unknown name, BackendError when this machine does not offer it
 */
export async function openDevice(device: Device = "auto", options: EngineOptions = {}): Promise<Backend> {
  if (!DEVICES.includes(device))
    throw new UsageError(`device must be ${DEVICES.slice(0, -1).join(", ")} or ${DEVICES.at(-1)}, got "${device}".`);
  if (device === "reference") return shared(device, async () => new ReferenceBackend());
  if (device === "webgpu" || (device === "auto" && (await hasRealGpu()))) return openGpuDevice();
  return shared(JSON.stringify(["wasm", options.threads, options.build]), () => WasmBackend.create(options));
}

/** One backend for all who ask for the same; when it could not be made, the next call tries again. */
function shared(key: string, make: () => Promise<Backend>): Promise<Backend> {
  let backend = open.get(key);
  if (!backend) {
    backend = make();
    open.set(key, backend);
    backend.catch(() => open.delete(key));
  }
  return backend;
}

/** A GPU that was lost or disposed of is forgotten. */
async function openGpuDevice(): Promise<Backend> {
  const pending = shared("webgpu", () => WebGpuBackend.create());
  const backend = await pending;
  if ((backend as WebGpuBackend).isOpen) return backend;
  if (open.get("webgpu") === pending) open.delete("webgpu");
  return openGpuDevice();
}
