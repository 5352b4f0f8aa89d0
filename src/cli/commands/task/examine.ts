// A trained model at many lengths, one after the other, until it cannot go on.
import type { LanguageModel } from "../../../nn/language-model.ts";
import { MambaError } from "../../../core/errors.ts";
import type { SyntheticTask } from "../../../data/index.ts";
import type { TaskAccuracy } from "../../../train/index.ts";
import { evaluateTask } from "../../../train/index.ts";
import { formatCount, formatSeconds, formatTable } from "../../format.ts";
import { createBar } from "../../progress.ts";
import { percent } from "./learn.ts";
import type { StoppedAt } from "./record.ts";

const SEED = 7_000_003;
/** Tokens that are read at each length, where the number of examples is not given. */
const TOKENS = 2 ** 22;
const FEWEST_EXAMPLES = 16;
const MOST_EXAMPLES = 1024;

export interface Examination {
  readonly accuracy: readonly TaskAccuracy[];
  readonly stoppedAt: StoppedAt | null;
}

/** Examines lengths in turn. A length that the model cannot hold ends it, and is told with the reason. */
export async function examine(
  model: LanguageModel,
  task: SyntheticTask,
  lengths: readonly number[],
  options: { readonly examples?: number | undefined; readonly seed: number; readonly signal: AbortSignal },
): Promise<Examination> {
  const accuracy: TaskAccuracy[] = [];
  for (const length of lengths) {
    const bar = createBar(`length ${length}`);
    try {
      const found = await evaluateTask(model, task, {
        length,
        examples: options.examples ?? examplesFor(task.sequenceLength(length)),
        seed: options.seed + SEED,
        signal: options.signal,
        onProgress: ({ tokens, total }) => bar.update(tokens / total, `${formatCount(tokens)} tokens`),
      });
      accuracy.push(found);
    } catch (error) {
      if (options.signal.aborted || !(error instanceof MambaError)) throw error;
      return { accuracy, stoppedAt: { length, error: error.message } };
    } finally {
      bar.end();
    }
  }
  return { accuracy, stoppedAt: null };
}

function examplesFor(tokens: number): number {
  return Math.max(FEWEST_EXAMPLES, Math.min(MOST_EXAMPLES, Math.floor(TOKENS / tokens)));
}

/** A row a length. */
export function tableOf({ accuracy, stoppedAt }: Examination): string {
  const rows = accuracy.map(({ length, tokenAccuracy, sequenceAccuracy, loss, examples, seconds }) => [
    formatCount(length),
    percent(tokenAccuracy),
    percent(sequenceAccuracy),
    loss.toFixed(4),
    formatCount(examples),
    formatSeconds(seconds),
  ]);
  const head = ["length", "answers right", "sequences right", "loss", "examples", "time"];
  const end = stoppedAt ? `\n${formatCount(stoppedAt.length)}: stopped, ${stoppedAt.error}` : "";
  return `${formatTable([head, ...rows], [0, 1, 2, 3, 4, 5])}${end}\n`;
}
