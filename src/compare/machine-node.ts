// The machine of a report. Node only.
import os from "node:os";
import type { Backend } from "../backends/backend.ts";
import { WebGpuBackend } from "../backends/webgpu/index.ts";
import type { ReportMachine } from "../report/schema.ts";

export function reportMachine(backend: Backend): ReportMachine {
  const about = {
    processor: os.cpus()[0]?.model.trim() || "unknown",
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    device: backend.name,
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
  };
  if (!(backend instanceof WebGpuBackend)) return about;
  const { description, vendor, architecture } = backend.about;
  const gpu = description || [vendor, architecture].filter(Boolean).join(" ");
  return gpu ? { ...about, gpu } : about;
}
