// What a run must know to continue, beside weights and optimizer: training.json of its last checkpoint.
import { CheckpointError, ConfigError } from "../core/errors.ts";
import type { BatchPosition, BatchSource } from "../data/index.ts";
import type { BestEvaluation, Recipe } from "./options.ts";

export interface RunState {
  readonly version: 1;
  /** Updates made. */
  readonly step: number;
  readonly tokens: number;
  /** The last step that was evaluated; 0 for none. */
  readonly evaluatedStep: number;
  readonly best: BestEvaluation | null;
  /** Where the data go on, their random state included: the batch source's own value. */
  readonly position: BatchPosition;
  readonly data: string;
  readonly recipe: Recipe;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Fields that a resumed run may change: they decide how it runs and what is told of it, not what is computed. */
const FREE_FIELDS: ReadonlySet<string> = new Set([
  "steps",
  "evalEvery",
  "saveEvery",
  "logEvery",
  "resume",
  "checkpointBlocks",
]);

/** Parses training.json. `where` names it in errors. Throws CheckpointError. */
export function parseRunState(json: string, where: string): RunState {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (error) {
    throw new CheckpointError(`${where}: is not JSON: ${(error as Error).message}. Resume from another checkpoint.`, {
      cause: error,
    });
  }
  const state = (isObject(parsed) ? parsed : {}) as unknown as RunState;
  if (state.version !== 1)
    throw new CheckpointError(
      `${where}: version must be 1, got ${JSON.stringify(state.version)}. Was it written by a newer mamba.ts?`,
    );
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  const isBest =
    state.best === null || (isObject(state.best) && isCount(state.best.step) && Number.isFinite(state.best.loss));
  const rules: [string, boolean][] = [
    ["step", isCount(state.step)],
    ["tokens", isCount(state.tokens)],
    ["evaluatedStep", isCount(state.evaluatedStep)],
    ["best", isBest],
    ["data", typeof state.data === "string"],
    ["recipe", isObject(state.recipe)],
    ["settings", isObject(state.settings)],
  ];
  for (const [field, isGood] of rules)
    if (!isGood) throw new CheckpointError(`${where}: ${field} is missing or damaged. Resume from another checkpoint.`);
  return state;
}

/** What a run is resumed with. */
export interface Resumption {
  readonly recipe: Recipe;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly steps: number;
}

/**
 * Compares a run's record with what it is resumed with. Numbers of steps (in all, between evaluations, saves, lines)
 * may change.
 * @throws ConfigError naming the first field that differs
 */
export function checkSameRun(saved: RunState, now: Resumption, where: string): void {
  const before = { settings: saved.settings, recipe: saved.recipe };
  const after = { settings: now.settings, recipe: now.recipe };
  const difference = firstDifference(toJson(before), toJson(after), []);
  if (difference)
    throw new ConfigError(
      `train: cannot resume ${where}: ${difference.field} was ${show(difference.was)} and is ${show(difference.is)} now. Resume with what the run began with, or begin a new run in another folder.`,
    );
  if (saved.step > now.steps)
    throw new ConfigError(
      `train: steps must be at least ${saved.step}, where the run in ${where} stands, got ${now.steps}.`,
    );
}

/** Checks that the data go on where the run stopped. Throws ConfigError. */
export function checkSamePlace(saved: RunState, data: BatchSource, where: string): void {
  if (data.description !== saved.data)
    throw new ConfigError(
      `train: cannot resume ${where}: data was ${show(saved.data)} and is ${show(data.description)} now. Resume with what the run began with, or begin a new run in another folder.`,
    );
  if (JSON.stringify(data.position) !== JSON.stringify(saved.position))
    throw new ConfigError(
      `train: to resume ${where} the data must continue at ${show(saved.position)}, and are at ${show(data.position)}. Give data as a function of the position.`,
    );
}

interface Difference {
  readonly field: string;
  readonly was: unknown;
  readonly is: unknown;
}

function firstDifference(a: unknown, b: unknown, path: readonly string[]): Difference | undefined {
  if (isObject(a) && isObject(b)) {
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
      if (path.join() === "settings" && FREE_FIELDS.has(key)) continue;
      const found = firstDifference(a[key], b[key], [...path, key]);
      if (found) return found;
    }
    return undefined;
  }
  // Its place in the record ("settings", "recipe") says nothing to the person who gave it.
  const field = path.slice(path.length > 1 ? 1 : 0).join(".");
  return JSON.stringify(a) === JSON.stringify(b) ? undefined : { field, was: a, is: b };
}

function show(value: unknown): string {
  return value === undefined ? "not given" : JSON.stringify(value).slice(0, 200);
}

/** What a value becomes in a file and back, so that both sides of a comparison are alike. */
function toJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
