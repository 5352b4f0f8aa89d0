// Selective copying: repeat the tokens that stood scattered in noise, in their order.
// Source: Gu & Dao 2023, 4.1.1 and E.1, whose generator was not released; torch_copying_data(variable=True) of state-spaces/s4.
import type { Random } from "../../core/random.ts";
import { drawDistinct } from "./draws.ts";
import type { SyntheticTask, TaskKind, TaskOptions } from "./task.ts";
import { checkOption, checkTaskLength } from "./task.ts";

const NAME = "selective-copying";
const NOISE = 0;

/**
 * `length` tokens of noise (0), with M tokens of 1 .. vocab-2 at random places among them (any M of the length + M places,
 * all choices equally likely), then M markers (vocab-1). At the i-th marker the i-th of these tokens is asked for.
 * A sequence has length + 2M tokens. The paper: length 4096, M = 16, vocab 16.
 */
export const selectiveCopying: TaskKind = {
  name: NAME,
  summary: "repeat the tokens that stand scattered in noise",
  takes: ["vocab", "tokens"],
  create({ vocab = 16, tokens: count = 16 }: TaskOptions): SyntheticTask {
    checkOption(NAME, "vocab", vocab, 3);
    checkOption(NAME, "tokens", count, 1);
    const marker = vocab - 1;
    return {
      name: NAME,
      description: `repeat ${count} tokens, of ${vocab - 2} kinds, that stand in noise`,
      options: { vocab, tokens: count },
      vocabSize: vocab,
      minLength: 1,
      defaultLength: 256,
      testLengths: (length) => [length],
      sequenceLength: (length) => length + 2 * count,
      checkLength: (length) => checkTaskLength(NAME, length, 1),
      write(random: Random, length: number, tokens: Int32Array, targets: Int32Array): void {
        const slots = length + count;
        const places = drawDistinct(random, slots, count).sort();
        tokens.fill(NOISE, 0, slots).fill(marker, slots);
        for (const [i, place] of places.entries()) {
          const token = 1 + random.integer(vocab - 2);
          tokens[place] = token;
          targets[slots + i] = token;
        }
      },
    };
  },
};
