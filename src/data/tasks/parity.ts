// Parity: is the number of ones so far even or odd? The smallest task that needs a state which changes sign.
// Source: Delétang et al. 2023, "Neural networks and the Chomsky hierarchy", parity check; state tracking of Mamba-3.
import type { Random } from "../../core/random.ts";
import type { SyntheticTask, TaskKind, TaskOptions } from "./task.ts";
import { checkOption, checkTarget, checkTaskLength, doublings } from "./task.ts";

const NAME = "parity";
const LONGEST_TEST = 16;

/**
 * Random bits; the answer is their sum modulo 2, asked for after every bit (target "each", the default) or after the last
 * ("end"). `vocab` may be larger than 2 for a model that needs it so; ids from 2 on never occur.
 */
export const parity: TaskKind = {
  name: NAME,
  summary: "whether the number of ones is odd (state tracking)",
  takes: ["vocab", "target"],
  create({ vocab = 2, target = "each" }: TaskOptions): SyntheticTask {
    checkOption(NAME, "vocab", vocab, 2);
    checkTarget(NAME, target);
    return {
      name: NAME,
      description: `whether the number of ones is odd, asked ${target === "each" ? "after every bit" : "at the end"}`,
      options: { vocab, target },
      vocabSize: vocab,
      minLength: 1,
      defaultLength: 64,
      testLengths: (length) => doublings(length, LONGEST_TEST * length),
      sequenceLength: (length) => length,
      checkLength: (length) => checkTaskLength(NAME, length, 1),
      write(random: Random, length: number, tokens: Int32Array, targets: Int32Array): void {
        let odd = 0;
        for (let i = 0; i < length; i++) {
          const bit = random.integer(2);
          odd ^= bit;
          tokens[i] = bit;
          if (target === "each" || i === length - 1) targets[i] = odd;
        }
      },
    };
  },
};
