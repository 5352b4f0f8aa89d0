// What models are trained and measured on: texts and what is held out of them, or a synthetic task.
import type { BatchPosition, BatchSource, SyntheticTask } from "../data/index.ts";
import { randomWindows, taskBatches } from "../data/index.ts";
import type { TokenData } from "../data/index.ts";
import type { ReportData } from "../report/schema.ts";
import type { Tokenizer } from "../tokenizers/tokenizer.ts";

/** A text that no model was trained on. */
export interface HeldOutText {
  readonly name: string;
  readonly data: TokenData;
}

export interface BatchWish {
  readonly batch: number;
  readonly length: number;
  readonly seed: number;
}

interface AnyData {
  /** Rows of the embedding. */
  readonly vocabSize: number;
  /** Without the number of tokens, which for a task is that of training. */
  readonly about: ReportData;
  /** Endless batches from the beginning, or from a position on: the same for all models. */
  open(wish: BatchWish, position?: BatchPosition): BatchSource;
  /** Tokens of a sequence of this length. */
  sequenceLength(length: number): number;
}

export interface TextData extends AnyData {
  readonly kind: "text";
  readonly tokenizer: Tokenizer;
  readonly train: TokenData;
  readonly heldOut: readonly HeldOutText[];
}

export interface TaskData extends AnyData {
  readonly kind: "task";
  readonly task: SyntheticTask;
}

export type CompareData = TextData | TaskData;

export function textData(parts: {
  readonly tokenizer: Tokenizer;
  readonly train: TokenData;
  readonly heldOut: readonly HeldOutText[];
  readonly names: readonly string[];
}): TextData {
  const { tokenizer, train, heldOut, names } = parts;
  const vocabSize = Math.ceil(tokenizer.vocabSize / 8) * 8;
  return {
    ...parts,
    kind: "text",
    vocabSize,
    about: {
      kind: "text",
      names,
      tokenizer: tokenizer.name,
      vocabulary: tokenizer.vocabSize,
      tokens: train.tokens.length,
      bytes: train.bytes,
      heldOut: heldOut.map(({ name, data }) => ({ name, tokens: data.tokens.length, bytes: data.bytes })),
    },
    open: (wish, position) => randomWindows(train, { ...wish, position }),
    sequenceLength: (length) => length,
  };
}

/** Examples that chance is found from. */
const ANSWERS = 20_000;
const CHANCE_SEED = 9_000_011;

export function taskData(task: SyntheticTask, length: number): TaskData {
  return {
    kind: "task",
    task,
    vocabSize: task.vocabSize,
    about: {
      kind: "task",
      names: [task.name],
      description: `${task.description[0].toUpperCase()}${task.description.slice(1)}.`,
      vocabulary: task.vocabSize,
      tokens: 0,
      heldOut: [],
      chance: chanceOf(task, length),
    },
    open: (wish, position) => taskBatches(task, { ...wish, position }),
    sequenceLength: (length) => task.sequenceLength(length),
  };
}

/** The accuracy of guessing: one in so many different answers as a task asks for. */
function chanceOf(task: SyntheticTask, length: number): number {
  const examples = taskBatches(task, { batch: 1, length, seed: CHANCE_SEED });
  const seen = new Set<number>();
  let answers = 0;
  for (let i = 0; answers < ANSWERS && i < ANSWERS / 20; i++)
    for (const target of examples.next().targets) {
      if (target < 0) continue;
      seen.add(target);
      answers += 1;
    }
  return 1 / seen.size;
}
