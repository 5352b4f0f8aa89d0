// Peak memory of this process.
import { readFileSync } from "node:fs";

/**
 * Largest resident set of this process so far, in bytes.
 * Linux: VmHWM of /proc/self/status, because getrusage's number survives exec, so that a large parent (a test runner, a
 * benchmark) would be counted. Elsewhere, and where /proc is absent: process.resourceUsage().maxRSS, which libuv gives
 * in KiB on every system (bytes on macOS are divided since libuv 1.45, https://github.com/libuv/libuv/pull/3721).
 */
export function peakMemoryBytes(): number {
  return (peakFromProc() ?? process.resourceUsage().maxRSS) * 1024;
}

function peakFromProc(): number | undefined {
  if (process.platform !== "linux") return undefined;
  try {
    const found = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"));
    return found ? Number(found[1]) : undefined;
  } catch {
    return undefined;
  }
}
