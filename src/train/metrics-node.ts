// metrics.jsonl: one JSON object a line, one line a logged step or evaluation. Node only.
import * as fs from "node:fs/promises";
import { DataError } from "../core/errors.ts";
import { writeFileAtomic } from "../io/index.ts";

/** A line: `step`, and what is told of it. */
export interface MetricsLine {
  readonly step: number;
  readonly [field: string]: unknown;
}

/** Appends a line. Throws DataError when the system refuses. */
export async function appendMetrics(path: string, line: MetricsLine): Promise<void> {
  try {
    await fs.appendFile(path, `${JSON.stringify(line)}\n`);
  } catch (error) {
    throw new DataError(
      `${path}: cannot be written: ${(error as Error).message}. Is the disk full, or the file read-only?`,
      { cause: error },
    );
  }
}

/** Keeps the lines up to a step, in order; what comes after it, or is no line (a kill while writing), goes. */
export async function cutMetrics(path: string, lastStep: number): Promise<void> {
  const text = await fs.readFile(path, "utf8").catch(() => "");
  const kept = text.split("\n").filter((line) => stepOf(line) <= lastStep);
  await writeFileAtomic(path, kept.map((line) => `${line}\n`).join(""));
}

function stepOf(line: string): number {
  try {
    const { step } = JSON.parse(line) as { step?: unknown };
    return typeof step === "number" ? step : Infinity;
  } catch {
    return Infinity;
  }
}
