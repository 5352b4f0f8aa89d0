// The learning rate of each step: linear warm-up, then constant, or a cosine down to a floor.
// Source: the recipe of Gu & Dao 2023, E.2; cosine after Loshchilov & Hutter 2017, eq. 5, one cycle.
import { ConfigError } from "../core/errors.ts";

/** Shapes of the learning rate over a run. */
export type Schedule = "constant" | "cosine";

/** The learning rate over the steps. */
export interface ScheduleOptions {
  readonly schedule: Schedule;
  /** The highest rate, reached at the end of the warm-up. */
  readonly learningRate: number;
  /** Steps of the whole run; the cosine reaches its floor at the last. */
  readonly steps: number;
  /** Steps of linear warm-up. Default 0. */
  readonly warmupSteps?: number | undefined;
  /** Floor of the cosine. Default 1e-5, or `learningRate` where that is lower. */
  readonly minLearningRate?: number | undefined;
}

const DEFAULT_FLOOR = 1e-5;

/**
 * The learning rate of a step, counted from 1. With peak = max(1, warmupSteps):
 * step <= peak: learningRate · step / peak; after it "constant": learningRate; "cosine":
 * floor + (learningRate - floor) · (1 + cos(π (step - peak) / (steps - peak))) / 2, and the floor beyond `steps`.
 * @throws ConfigError see {@link checkSchedule}
 */
export function learningRateAt(step: number, options: ScheduleOptions): number {
  checkSchedule(options);
  const { schedule, learningRate, steps, warmupSteps = 0 } = options;
  const peak = Math.max(1, warmupSteps);
  if (step <= peak) return (learningRate * Math.max(0, step)) / peak;
  if (schedule === "constant") return learningRate;
  const floor = options.minLearningRate ?? Math.min(DEFAULT_FLOOR, learningRate);
  const progress = Math.min(1, (step - peak) / Math.max(1, steps - peak));
  return floor + ((learningRate - floor) * (1 + Math.cos(Math.PI * progress))) / 2;
}

/** Throws ConfigError with the field, its rule and what came. */
export function checkSchedule({
  schedule,
  learningRate,
  steps,
  warmupSteps = 0,
  minLearningRate,
}: ScheduleOptions): void {
  if (schedule !== "constant" && schedule !== "cosine")
    throw new ConfigError(`train: schedule must be "constant" or "cosine", got ${JSON.stringify(schedule)}.`);
  if (!(learningRate > 0 && learningRate < Infinity))
    throw new ConfigError(`train: learningRate must be a positive number, got ${learningRate}. Try 0.001.`);
  if (!(Number.isSafeInteger(steps) && steps >= 1))
    throw new ConfigError(`train: steps must be a whole number, 1 or more, got ${steps}.`);
  if (!(Number.isSafeInteger(warmupSteps) && warmupSteps >= 0))
    throw new ConfigError(`train: warmupSteps must be a whole number, 0 or more, got ${warmupSteps}.`);
  if (warmupSteps > steps)
    throw new ConfigError(
      `train: warmupSteps must not exceed steps, got ${warmupSteps} of ${steps}: the learning rate would never be reached.`,
    );
  if (minLearningRate !== undefined && !(minLearningRate >= 0 && minLearningRate <= learningRate))
    throw new ConfigError(
      `train: minLearningRate must lie between 0 and learningRate (${learningRate}), got ${minLearningRate}.`,
    );
}
