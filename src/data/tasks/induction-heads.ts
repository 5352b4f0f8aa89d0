// Induction heads: a special token stood somewhere before; when it comes again, say what followed it.
// Source: Gu & Dao 2023, 4.1.2 and E.1; generate_induction_head of HazyResearch/safari, one trigger, one token to copy.
import type { Random } from "../../core/random.ts";
import type { SyntheticTask, TaskKind, TaskOptions } from "./task.ts";
import { checkOption, checkTaskLength, doublings } from "./task.ts";

const NAME = "induction-heads";
const MIN_LENGTH = 4;
const SHORTEST_TEST = 2 ** 6;
const LONGEST_TEST = 2 ** 20;

/**
 * Random tokens of 0 .. vocab-3, among them the copy prefix (vocab-1) at a place that is uniform in 0 .. length-4, and once
 * more at the end, where the token that followed it is asked for; nothing else is scored. As in safari's generator, one
 * id (vocab-2, its "no-op") is counted and never occurs. `length` is that of the whole sequence. The paper: vocab 16,
 * trained at length 256, examined at 2^6 to 2^20.
 */
export const inductionHeads: TaskKind = {
  name: NAME,
  summary: "say what followed a special token when that comes again",
  takes: ["vocab"],
  create({ vocab = 16 }: TaskOptions): SyntheticTask {
    checkOption(NAME, "vocab", vocab, 3);
    const prefix = vocab - 1;
    return {
      name: NAME,
      description: `say which of ${vocab - 2} tokens followed a special one when that comes again`,
      options: { vocab },
      vocabSize: vocab,
      minLength: MIN_LENGTH,
      defaultLength: 256,
      testLengths: () => doublings(SHORTEST_TEST, LONGEST_TEST),
      sequenceLength: (length) => length,
      checkLength: (length) => checkTaskLength(NAME, length, MIN_LENGTH),
      write(random: Random, length: number, tokens: Int32Array, targets: Int32Array): void {
        for (let i = 0; i < length - 1; i++) tokens[i] = random.integer(vocab - 2);
        const place = random.integer(length - 3);
        tokens[place] = prefix;
        tokens[length - 1] = prefix;
        targets[length - 1] = tokens[place + 1];
      },
    };
  },
};
