// task.json: all that is known of a task's run.
import { join } from "node:path";
import { makeFolder, writeFileAtomic } from "../../../io/index.ts";
import type { TaskAccuracy } from "../../../train/index.ts";
import type { DeviceReport } from "../../device.ts";
import type { describeMachine } from "../../machine.ts";
import type { TaskSettings } from "./settings.ts";

/** A check between steps. */
export interface CurvePoint {
  readonly step: number;
  /** Of the examples that were trained on, and of those of the check. */
  readonly length: number;
  /** Of training, in nats per answer, mean since the last check. */
  readonly loss: number;
  readonly tokenAccuracy: number;
  readonly sequenceAccuracy: number;
  /** Of training, checks and saves included. */
  readonly seconds: number;
}

/** Why nothing is known of a length and those beyond it. */
export interface StoppedAt {
  readonly length: number;
  readonly error: string;
}

export interface TaskRecord extends DeviceReport {
  readonly what: "mamba task";
  readonly version: string;
  readonly command: string;
  readonly settings: TaskSettings;
  readonly parameters: number;
  readonly machine: ReturnType<typeof describeMachine>;
  /** Steps made. */
  readonly step: number;
  readonly tokens: number;
  readonly seconds: number;
  /** Whether accuracy reached stopAt at the last length of the curriculum. */
  readonly learned: boolean;
  readonly curve: readonly CurvePoint[];
  /** Of the trained model, by length. */
  readonly accuracy: readonly TaskAccuracy[];
  readonly stoppedAt: StoppedAt | null;
}

/** Writes the record into the run's folder, if it has one. */
export async function writeRecord(out: string | undefined, record: TaskRecord): Promise<void> {
  if (out === undefined) return;
  await makeFolder(out);
  await writeFileAtomic(join(out, "task.json"), `${JSON.stringify(record, null, 2)}\n`);
}
