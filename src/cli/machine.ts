// What this machine is, for measurements and for doctor.
import os from "node:os";

export interface Machine {
  readonly cpu: string;
  /** Cores that this process may use. */
  readonly cores: number;
  readonly memoryBytes: number;
  readonly node: string;
  /** For example `linux x64`. */
  readonly platform: string;
}

export function describeMachine(): Machine {
  return {
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
  };
}
