// compare.json in the folder of a comparison: its settings, its plan, and what was found so far. Node only.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, DataError, UsageError } from "../core/errors.ts";
import { makeFolder, writeFileAtomic } from "../io/index.ts";
import { codeOf, messageOf } from "../io/text.ts";
import type { TuningTrial } from "../report/schema.ts";
import type { CompareSettings } from "./options.ts";
import { FREE_SETTINGS } from "./options.ts";
import type { PartResult } from "./parts.ts";
import type { PlannedModel } from "./plan.ts";

const VERSION = 1;
const FILE = "compare.json";

/** A comparison as it is kept. */
export interface Comparison {
  readonly version: typeof VERSION;
  /** ISO 8601. */
  readonly created: string;
  readonly command: string;
  readonly device: string;
  readonly settings: CompareSettings;
  readonly models: readonly PlannedModel[];
  readonly sweep: readonly PlannedModel[];
  readonly notes: readonly string[];
  /** By the id of the part. */
  readonly results: Readonly<Record<string, PartResult>>;
  readonly seconds: Readonly<Record<string, number>>;
  /** Trials of learning rates, by the folder of the model: those of a search under way, too. */
  readonly trials?: Readonly<Record<string, readonly TuningTrial[]>>;
}

export async function writeComparison(out: string, comparison: Comparison): Promise<void> {
  await makeFolder(out);
  await writeFileAtomic(join(out, FILE), `${JSON.stringify(comparison, null, 2)}\n`);
}

/** Throws UsageError when a folder holds a comparison already. */
export async function checkNew(out: string): Promise<void> {
  if ((await readText(out)) === undefined) return;
  throw new UsageError(
    `compare: ${out} holds a comparison already. Go on with it (resume), choose another folder, or remove this one.`,
  );
}

/** The comparison of a folder. Throws DataError when there is none, or it is damaged. */
export async function readComparison(out: string): Promise<Comparison> {
  const text = await readText(out);
  if (text === undefined)
    throw new DataError(`compare: there is no comparison to resume in ${out} (no ${FILE}). Begin one without resume.`);
  try {
    const found = JSON.parse(text) as Comparison;
    if (found.version === VERSION && typeof found.settings === "object" && Array.isArray(found.models)) return found;
  } catch {
    // Told below.
  }
  throw new DataError(`${join(out, FILE)}: is not a comparison of this version. Begin a new one in another folder.`);
}

/** The settings that a comparison goes on with: its own, and of those given now the ones that may change. */
export function resumedSettings({ settings: before }: Comparison, now: CompareSettings, out: string): CompareSettings {
  for (const [field, value] of Object.entries(now)) {
    const name = field as keyof CompareSettings;
    if (value === undefined || FREE_SETTINGS.has(name)) continue;
    const was = JSON.stringify(before[name]);
    if (was !== JSON.stringify(value))
      throw new ConfigError(
        `compare: cannot resume ${out}: ${field} was ${was ?? "not given"} and is ${JSON.stringify(value)} now. Resume with what the comparison began with, or begin a new one in another folder.`,
      );
  }
  const given = Object.entries(now).filter(([, value]) => value !== undefined);
  return { ...before, ...Object.fromEntries(given) };
}

async function readText(out: string): Promise<string | undefined> {
  try {
    return await readFile(join(out, FILE), "utf8");
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return undefined;
    throw new DataError(`${join(out, FILE)}: cannot be read: ${messageOf(cause)}.`, { cause });
  }
}
