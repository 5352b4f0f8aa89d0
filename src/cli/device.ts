// What the commands say of the device that they run on.
import type { Backend } from "../backends/backend.ts";
import { WasmBackend } from "../backends/wasm/index.ts";
import { WebGpuBackend } from "../backends/webgpu/index.ts";
import { log } from "./output.ts";

/** Of a device, in every --json. */
export interface DeviceReport {
  readonly device: Backend["name"];
  /** Threads of wasm; 1 elsewhere. */
  readonly threads: number;
  /** Which kernels of wasm: relaxed or simd. */
  readonly build: string | null;
  /** The GPU and its driver. */
  readonly adapter: string | null;
}

export function reportDevice(backend: Backend): DeviceReport {
  return {
    device: backend.name,
    threads: backend.threads,
    build: backend instanceof WasmBackend ? backend.build : null,
    adapter: backend instanceof WebGpuBackend ? adapterName(backend) : null,
  };
}

/** For a line of a summary: "wasm relaxed ×2", "webgpu NVIDIA H200". */
export function describeDevice(backend: Backend): string {
  if (backend instanceof WasmBackend) return `wasm ${backend.build} ×${backend.threads}`;
  if (!(backend instanceof WebGpuBackend)) return backend.name;
  // "NVIDIA H200: 570.86.15", the name and then the driver.
  const [name] = adapterName(backend).split(":");
  return `webgpu ${name}${backend.about.isSoftware ? " (software)" : ""}`;
}

/** Says that --threads was given in vain, where it was. */
export function noteThreads(backend: Backend, { threads }: { threads?: number }): void {
  if (threads !== undefined && backend.name !== "wasm")
    log(`--threads is of the wasm device; ${backend.name} does not use it.`);
}

function adapterName({ about }: WebGpuBackend): string {
  return about.description || [about.vendor, about.architecture].filter(Boolean).join(" ") || "a GPU without a name";
}
