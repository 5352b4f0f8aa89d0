// How far a model's training has come, in its folder: the curve, and what has gathered since its last point. Node only.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../core/errors.ts";
import { writeFileAtomic } from "../io/index.ts";
import { codeOf } from "../io/text.ts";
import type { CurvePoint } from "../report/schema.ts";
import { readRunState } from "../train/run-folder-node.ts";

export interface Progress {
  readonly step: number;
  /** Of training alone, without evaluations and saves. */
  readonly seconds: number;
  readonly peakMemoryBytes: number;
  /** Sum of the losses since the last point, and their number. */
  readonly losses: number;
  readonly steps: number;
  readonly points: readonly CurvePoint[];
}

const FILE = "curve.json";

export async function writeProgress(folder: string, progress: Progress): Promise<void> {
  await writeFileAtomic(join(folder, FILE), `${JSON.stringify(progress)}\n`);
}

/** Where a run goes on; undefined where there is none that was saved. */
export async function readProgress(folder: string): Promise<Progress | undefined> {
  const text = await readFile(join(folder, FILE), "utf8").catch((error: unknown) => {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  });
  const isSaved = await readRunState(folder).catch(() => undefined);
  if (text === undefined || !isSaved) return undefined;
  const { step } = isSaved;
  try {
    const found = JSON.parse(text) as Progress;
    if (found.step === step) return found;
    // The run was killed after a point and before the next save: from there it is made again.
    const points = found.points.filter((point) => point.step <= step);
    return { ...found, step, points, seconds: points.at(-1)?.seconds ?? 0, losses: 0, steps: 0 };
  } catch (cause) {
    throw new CheckpointError(`${join(folder, FILE)}: is damaged. Remove the folder of this run to train anew.`, {
      cause,
    });
  }
}
