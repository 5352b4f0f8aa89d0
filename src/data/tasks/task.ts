// A synthetic task: sequences made from random numbers, with answers that can only be known by remembering the right things.
import { ConfigError } from "../../core/errors.ts";
import type { Random } from "../../core/random.ts";
import { IGNORED } from "../batches.ts";

/** What a task may be made with; each task takes some of these, and refuses the others. */
export interface TaskOptions {
  /** Tokens of the vocabulary, special ones included. */
  readonly vocab?: number | undefined;
  /** Tokens to remember. */
  readonly tokens?: number | undefined;
  /** Pairs of key and value; default: a quarter of the length. */
  readonly pairs?: number | undefined;
  /** What arithmetic is modulo of. */
  readonly modulus?: number | undefined;
  /** Whether the answer so far is asked for wherever there is one, or only the last. */
  readonly target?: TaskTarget | undefined;
}

/** Where a state-tracking task asks for its answer. */
export type TaskTarget = "each" | "end";

/** Tokens and answers of one sequence. */
export interface TaskExample {
  readonly tokens: Int32Array;
  /** At each token the answer that is to be given after reading it; -100 where none is asked for. */
  readonly targets: Int32Array;
}

/** A task with its options. Equal random states give equal examples, on every platform. */
export interface SyntheticTask {
  readonly name: string;
  /** For people: what is asked, with these options. */
  readonly description: string;
  /** Those that it was made with, defaults filled in. */
  readonly options: Readonly<Record<string, number | string>>;
  /** Ids of tokens and answers are below it. */
  readonly vocabSize: number;
  readonly minLength: number;
  readonly defaultLength: number;
  /** Lengths at which a model that was trained at `length` is examined, that one included. */
  testLengths(length: number): readonly number[];
  /** Tokens of a sequence of this length: the same, unless the task counts only a part of it. */
  sequenceLength(length: number): number;
  /** Throws ConfigError for a length that the task does not have. */
  checkLength(length: number): void;
  /**
   * Writes one example of a length that was checked. Both arrays have sequenceLength(length) elements, and targets comes
   * filled with -100.
   */
  write(random: Random, length: number, tokens: Int32Array, targets: Int32Array): void;
}

/** How a task is found and made. */
export interface TaskKind {
  readonly name: string;
  readonly summary: string;
  /** The options that it takes. */
  readonly takes: readonly (keyof TaskOptions)[];
  /** The options are known to be among those; their values are checked here. Throws ConfigError. */
  create(options: TaskOptions): SyntheticTask;
}

/** Longest sequence: more would not fit an array of a batch. */
const MOST_LENGTH = 2 ** 28;

/** One example of a task. Throws ConfigError for a length that the task does not have. */
export function taskExample(task: SyntheticTask, random: Random, length: number): TaskExample {
  task.checkLength(length);
  const size = task.sequenceLength(length);
  const tokens = new Int32Array(size);
  const targets = new Int32Array(size).fill(IGNORED);
  task.write(random, length, tokens, targets);
  return { tokens, targets };
}

/** Throws ConfigError unless an option is a whole number from `least` to `most`. */
export function checkOption(task: string, option: string, value: number, least: number, most: number = 2 ** 24): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  throw new ConfigError(`${task}: ${option} must be a whole number from ${least} to ${most}, got ${value}.`);
}

/** Throws ConfigError unless a length is a whole number, `least` or more. */
export function checkTaskLength(task: string, length: number, least: number): void {
  if (Number.isSafeInteger(length) && length >= least && length <= MOST_LENGTH) return;
  throw new ConfigError(`${task}: length must be a whole number from ${least} to ${MOST_LENGTH}, got ${length}.`);
}

/** Throws ConfigError unless it is one of the two. */
export function checkTarget(task: string, target: string): void {
  if (target === "each" || target === "end") return;
  throw new ConfigError(`${task}: target must be each or end, got ${JSON.stringify(target)}.`);
}

/** `length`, and its doublings up to `most`. */
export function doublings(length: number, most: number): number[] {
  const lengths = [length];
  for (let next = 2 * length; next <= most; next *= 2) lengths.push(next);
  return lengths;
}
