// Whether there may be a GPU at all, from what Linux shows under /dev: so that "auto" leaves Dawn asleep where there is
// nothing to find. Waking it takes time, and on the way it writes to stderr what it misses.
import { readdirSync } from "node:fs";

/** Files of the drivers of NVIDIA (desktop and Tegra), AMD, WSL, Mali and Adreno; what else draws is under /dev/dri. */
const NODES = /^(nvidia\d|nvidiactl|nvhost|nvgpu|kfd|dxg|mali|kgsl)/;
/** A node that computes; `card0` alone is a mere screen. */
const RENDERS = /^renderD/;

/** True where nobody can tell: on other systems, drivers are there whenever the hardware is. */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux") return true;
  return namesIn("/dev").some((name) => NODES.test(name)) || namesIn("/dev/dri").some((name) => RENDERS.test(name));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
