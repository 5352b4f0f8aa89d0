// Measures prefill and decode: a warm-up, then repetitions in turn, then medians.
import { createRandom } from "../../../core/random.ts";
import { DecodeSession } from "../../../generate/session.ts";
import type { LanguageModel, ModelState } from "../../../nn/language-model.ts";
import { significant } from "../../format.ts";

/** Tokens a second. */
export interface Spread {
  readonly median: number;
  readonly slowest: number;
  readonly fastest: number;
}

interface Rate {
  readonly tokens: number;
  readonly tokensPerSecond: Spread;
}

export interface Measurement {
  readonly prefill: readonly Rate[];
  readonly decode: Rate;
}

export interface MeasureOptions {
  readonly promptTokens: readonly number[];
  readonly newTokens: number;
  readonly reps: number;
  readonly onProgress: (line: string) => void;
}

const WARM_UP_PROMPT = 64;
const WARM_UP_STEPS = 8;

/** Each repetition measures every prompt length once, then decodes behind the first of them. */
export async function measureModel(model: LanguageModel, options: MeasureOptions): Promise<Measurement> {
  const { promptTokens, newTokens, reps, onProgress } = options;
  const longest = Math.max(WARM_UP_PROMPT, newTokens, ...promptTokens);
  const random = createRandom(0);
  const ids = Int32Array.from({ length: longest }, () => random.integer(model.config.vocabSize));
  await measureOnce(model, ids, WARM_UP_PROMPT, WARM_UP_STEPS);
  const prefills: number[][] = promptTokens.map(() => []);
  const decodes: number[] = [];
  for (let rep = 1; rep <= reps; rep++) {
    for (const [i, length] of promptTokens.entries()) {
      const { prefillMs, decodeMs } = await measureOnce(model, ids, length, i === 0 ? newTokens : 0);
      prefills[i].push((length / prefillMs) * 1000);
      onProgress(`run ${rep} of ${reps}: prefill ${length} tokens, ${significant(prefills[i].at(-1)!)} tokens/s`);
      if (i > 0) continue;
      decodes.push((newTokens / decodeMs) * 1000);
      onProgress(`run ${rep} of ${reps}: decode ${newTokens} tokens, ${significant(decodes.at(-1)!)} tokens/s`);
    }
  }
  return {
    prefill: promptTokens.map((tokens, i) => ({ tokens, tokensPerSecond: spreadOf(prefills[i]) })),
    decode: { tokens: newTokens, tokensPerSecond: spreadOf(decodes) },
  };
}

/** A prompt and some steps, from a fresh state. */
async function measureOnce(
  model: LanguageModel,
  ids: Int32Array,
  promptTokens: number,
  newTokens: number,
): Promise<{ prefillMs: number; decodeMs: number }> {
  const session = new DecodeSession<ModelState>(model, model.initialState(1));
  try {
    const started = performance.now();
    await session.prefill(ids.subarray(0, promptTokens));
    const prefilled = performance.now();
    for (let i = 0; i < newTokens; i++) await session.step(ids.subarray(i, i + 1));
    return { prefillMs: prefilled - started, decodeMs: performance.now() - prefilled };
  } finally {
    session.dispose();
  }
}

function spreadOf(rates: readonly number[]): Spread {
  const sorted = rates.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, slowest: sorted[0], fastest: sorted.at(-1)! };
}
