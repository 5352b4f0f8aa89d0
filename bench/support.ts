// What the benchmarks share: flags, medians, the machine, what else kept it busy, results as JSON and as a Markdown table.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import type { ParseArgsConfig } from "node:util";
import { parseArgs } from "node:util";
import type { Machine } from "../src/cli/machine.ts";
import { describeMachine } from "../src/cli/machine.ts";
import { parseNumber } from "../src/cli/options.ts";
import { readVersion } from "../src/cli/version.ts";
import { MambaError, UsageError } from "../src/core/errors.ts";

/** The repository's root. */
export const ROOT: string = fileURLToPath(new URL("..", import.meta.url));

type Flags = NonNullable<ParseArgsConfig["options"]>;

/** The values of a script's flags (node:util parseArgs). @throws UsageError for a flag that it does not know */
export function readFlags<const T extends Flags>(options: T): ReturnType<typeof parseArgs<{ options: T }>>["values"] {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message} The script's first lines say how to run it.`);
  }
}

/** @throws UsageError when a flag that has no default is missing */
export function required(value: string | undefined, name: string): string {
  if (value === undefined) throw new UsageError(`${name} is needed. The script's first lines say how to run it.`);
  return value;
}

/** A whole number from 1 on. */
export function wholeFlag(text: string, name: string, least = 1): number {
  return parseNumber(text, name, { least, most: 2 ** 24, isWhole: true });
}

/** Whole numbers with commas between. */
export function wholeFlags(text: string, name: string, least = 1): number[] {
  return text.split(",").map((part) => wholeFlag(part, name, least));
}

/** f32 or int8. */
export function dtypeFlag(text: string): "f32" | "int8" {
  if (text === "f32" || text === "int8") return text;
  throw new UsageError(`--dtype must be f32 or int8, got "${text}".`);
}

/** Runs a script's body; a mistake of the person who runs it is one line, not a stack. */
export async function runScript(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof MambaError)) throw error;
    console.error(error.message);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  }
}

/** Whether node was started with this module. */
export function isScript(moduleUrl: string): boolean {
  return process.argv[1] !== undefined && realpathSync(process.argv[1]) === realpathSync(fileURLToPath(moduleUrl));
}

/** The middle value; of an even number of values the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export interface Summary {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** From least to most, in percent of the median. */
  readonly spreadPercent: number;
  readonly runs: number;
}

/** Median and spread, to four significant digits. */
export function summarize(values: readonly number[]): Summary {
  const middle = median(values);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return {
    median: round(middle),
    least: round(least),
    most: round(most),
    spreadPercent: round((100 * (most - least)) / middle),
    runs: values.length,
  };
}

/** The largest distance of a value from the median of all, in percent of that median. */
export function worstDeviationPercent(values: readonly number[]): number {
  const middle = median(values);
  return round(Math.max(...values.map((value) => Math.abs(value / middle - 1))) * 100);
}

/** Four significant digits. */
export function round(value: number): number {
  return Number(value.toPrecision(4));
}

/** Mebibytes for tables. */
export function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

/** `median (least to most)`. */
export function describeSummary({ median, least, most }: Summary): string {
  return `${median} (${least} to ${most})`;
}

export interface Environment {
  readonly version: string;
  /** Of the working tree; with a + where it holds changes. Null outside git. */
  readonly commit: string | null;
  readonly machine: Machine & { readonly v8: string };
}

/** What the numbers of a result depend on beside the code. */
export function describeEnvironment(): Environment {
  return { version: readVersion(), commit: readCommit(), machine: { ...describeMachine(), v8: process.versions.v8 } };
}

function readCommit(): string | null {
  const git = (...rest: string[]): string =>
    execFileSync("git", rest, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const hasChanges = git("status", "--porcelain", "--untracked-files=no", "src", "kernels") !== "";
    return `${git("rev-parse", "--short", "HEAD")}${hasChanges ? "+" : ""}`;
  } catch {
    return null;
  }
}

/**
 * Watches what other processes take of the machine from now on. The function that it returns gives their share of all
 * cores until then, 0 to 1; null where there is no /proc, and for less time than the system's clock ticks can tell.
 * Descendants of this process count as its own.
 */
export function watchForeignLoad(): () => number | null {
  const before = readLoad();
  const started = performance.now();
  return () => {
    const after = readLoad();
    const seconds = (performance.now() - started) / 1000;
    if (!before || !after || seconds < LEAST_SECONDS) return null;
    const foreign = after.busySeconds - before.busySeconds - (after.ownSeconds - before.ownSeconds);
    return Math.round((1000 * Math.max(0, foreign)) / (seconds * cpus().length)) / 1000;
  };
}

/** Linux counts in hundredths of a second, whatever the kernel's own clock. */
const TICKS_PER_SECOND = 100;
const LEAST_SECONDS = 0.25;

function readLoad(): { busySeconds: number; ownSeconds: number } | undefined {
  try {
    const [user, nice, system, , , irq, softirq] = readFileSync("/proc/stat", "utf8")
      .split("\n", 1)[0]
      .trim()
      .split(/\s+/)
      .slice(1)
      .map(Number);
    const own = readFamily().reduce((sum, { ticks }) => sum + ticks, 0);
    return {
      busySeconds: (user + nice + system + irq + softirq) / TICKS_PER_SECOND,
      ownSeconds: own / TICKS_PER_SECOND,
    };
  } catch {
    return undefined;
  }
}

interface Relative {
  readonly pid: number;
  readonly parent: number;
  /** Processor time of it and of its children that have ended. */
  readonly ticks: number;
}

/** This process and all that descend from it. Field numbers: man proc_pid_stat. */
function readFamily(): Relative[] {
  const all = new Map<number, Relative>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
      all.set(Number(name), { pid: Number(name), parent: Number(fields[1]), ticks });
    } catch {
      // It has ended since the folder was read.
    }
  }
  const isOurs = (pid: number): boolean => {
    let at: number | undefined = pid;
    while (at !== undefined && at !== process.pid) at = all.get(at)?.parent;
    return at === process.pid;
  };
  return [...all.values()].filter(({ pid }) => isOurs(pid));
}

/** Largest resident set so far of any one process that descends from this one, in bytes; null where there is no /proc. */
export function largestDescendantPeakBytes(): number | null {
  try {
    const peaks = readFamily()
      .filter(({ pid }) => pid !== process.pid)
      .map(({ pid }) => /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")))
      .map((found) => Number(found?.[1] ?? 0) * 1024);
    return peaks.length > 0 ? Math.max(...peaks) : null;
  } catch {
    return null;
  }
}

/** Writes a result for people to read and for git to compare; makes its folder. */
export function writeJson(path: string, value: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  const text = JSON.stringify(value, undefined, 2);
  // Lists of numbers on one line, as oxfmt has them.
  const compact = text.replace(
    /\[\s+([-+.\de]+(?:,\s+[-+.\de]+)*)\s+\]/g,
    (_, list: string) => `[${list.replace(/\s+/g, " ")}]`,
  );
  writeFileSync(path, `${compact}\n`);
  console.error(`wrote ${path}`);
}

/** A Markdown table; the first column is set to the left, the others to the right. */
export function markdownTable(
  header: readonly string[],
  rows: readonly (readonly (string | number | null)[])[],
): string {
  const line = (cells: readonly (string | number | null)[]): string =>
    `| ${cells.map((cell) => cell ?? "").join(" | ")} |`;
  return [line(header), line(header.map((_, i) => (i === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

/** The machine in a line, for beneath a table. */
export function describeMachineLine({ version, commit, machine }: Environment): string {
  const { cpu, cores, memoryBytes, node, platform } = machine;
  return `${cpu}, ${cores} cores, ${(memoryBytes / 2 ** 30).toFixed(1)} GiB, Node ${node}, ${platform}; mamba.ts ${version} (${commit ?? "no git"})`;
}
