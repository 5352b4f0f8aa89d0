// Multi-query associative recall (MQAR): pairs of key and value, then the keys again, at each of which its value is asked for.
// Source: Arora, Eyuboglu et al. 2023 (Zoology), multiquery_ar of HazyResearch/zoology; Dao & Gu 2024, appendix D.
import { ConfigError } from "../../core/errors.ts";
import type { Random } from "../../core/random.ts";
import { drawDistinct, drawWeighted } from "./draws.ts";
import type { SyntheticTask, TaskKind, TaskOptions } from "./task.ts";
import { checkOption, checkTaskLength, doublings } from "./task.ts";

const NAME = "mqar";
const MIN_LENGTH = 4;
/** Exponent of the power law of gaps: their density falls as gap^(POWER - 1). */
const POWER = 0.01;

/**
 * K pairs: distinct keys of 1 .. vocab/2-1, distinct values of vocab/2 .. vocab-1; then, in the other length - 2K places,
 * each key once more, at an even distance 2g from the end of the pairs, where g is drawn without replacement, in
 * proportion to (g + 1)^(0.01 - 1), in the order of the keys. All other places hold random tokens (the harder version,
 * of Mamba-2's paper). At each query its value is asked for. The papers: vocab 8192, K up to length / 4.
 */
export const mqar: TaskKind = {
  name: NAME,
  summary: "recall the value of each of many keys (multi-query associative recall)",
  takes: ["vocab", "pairs"],
  create({ vocab = 8192, pairs }: TaskOptions): SyntheticTask {
    checkOption(NAME, "vocab", vocab, 4);
    const most = Math.floor(vocab / 2) - 1;
    if (pairs !== undefined) checkOption(NAME, "pairs", pairs, 1, most);
    const pairsOf = (length: number): number => pairs ?? Math.floor(length / 4);
    return {
      name: NAME,
      description: `recall the values of ${pairs ?? "length/4"} keys, vocabulary ${vocab}`,
      options: { vocab, pairs: pairs ?? "length/4" },
      vocabSize: vocab,
      minLength: pairs === undefined ? MIN_LENGTH : 4 * pairs,
      defaultLength: 256,
      // With length/4 pairs a longer sequence asks for more to be remembered; no model is expected to.
      testLengths: (length) => (pairs === undefined ? [length] : doublings(length, 8 * length)),
      sequenceLength: (length) => length,
      checkLength(length): void {
        checkTaskLength(NAME, length, pairs === undefined ? MIN_LENGTH : 4 * pairs);
        if (length % 2 !== 0) throw new ConfigError(`${NAME}: length must be even, got ${length}.`);
        if (pairsOf(length) > most)
          throw new ConfigError(
            `${NAME}: a vocabulary of ${vocab} has ${most} keys, and length ${length} asks for ${pairsOf(length)}. Take a larger vocab or fewer pairs.`,
          );
      },
      write(random: Random, length: number, tokens: Int32Array, targets: Int32Array): void {
        writeExample(random, { vocab, pairs: pairsOf(length), length }, tokens, targets);
      },
    };
  },
};

function writeExample(
  random: Random,
  { vocab, pairs, length }: { vocab: number; pairs: number; length: number },
  tokens: Int32Array,
  targets: Int32Array,
): void {
  const half = Math.floor(vocab / 2);
  const context = 2 * pairs;
  const keys = drawDistinct(random, half - 1, pairs);
  const values = drawDistinct(random, vocab - half, pairs);
  const gaps = drawWeighted(random, gapWeights((length - context) / 2), pairs);
  for (let i = context; i < length; i++) tokens[i] = random.integer(vocab);
  for (let i = 0; i < pairs; i++) {
    const key = 1 + keys[i];
    const value = half + values[i];
    const query = context + 2 * gaps[i];
    tokens[2 * i] = key;
    tokens[2 * i + 1] = value;
    tokens[query] = key;
    targets[query] = value;
  }
}

function gapWeights(count: number): Float64Array {
  return Float64Array.from({ length: count }, (_, gap) => (gap + 1) ** (POWER - 1));
}
