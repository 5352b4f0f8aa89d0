// Modular arithmetic without brackets: the value of a sum of products, modulo a small number.
// Source: Delétang et al. 2023, "Neural networks and the Chomsky hierarchy", modular arithmetic (simple); Mamba-3's state tracking.
import type { Random } from "../../core/random.ts";
import type { SyntheticTask, TaskKind, TaskOptions } from "./task.ts";
import { checkOption, checkTarget, checkTaskLength, doublings } from "./task.ts";

const NAME = "modular-arithmetic";
const OPERATORS = 3;
const LONGEST_TEST = 16;

/**
 * Numbers of 0 .. m-1 at even places, operators between them: m is +, m+1 is -, m+2 is *, and * binds more tightly; all
 * drawn uniformly. A sequence of an even length ends with "=" (m+3), which changes nothing. The answer is the value
 * modulo m of the expression that ends here, asked for after every number and at "=" (target "each", the default), or at
 * the last token ("end"). The papers: m = 5.
 */
export const modularArithmetic: TaskKind = {
  name: NAME,
  summary: "the value of an expression without brackets, modulo 5 (state tracking)",
  takes: ["modulus", "target"],
  create({ modulus = 5, target = "each" }: TaskOptions): SyntheticTask {
    checkOption(NAME, "modulus", modulus, 2, 1024);
    checkTarget(NAME, target);
    return {
      name: NAME,
      description: `the value of a + b * c - ... modulo ${modulus}, asked ${target === "each" ? "after every number" : "at the end"}`,
      options: { modulus, target },
      vocabSize: modulus + OPERATORS + 1,
      minLength: 1,
      defaultLength: 64,
      testLengths: (length) => doublings(length, LONGEST_TEST * length),
      sequenceLength: (length) => length,
      checkLength: (length) => checkTaskLength(NAME, length, 1),
      write(random: Random, length: number, tokens: Int32Array, targets: Int32Array): void {
        writeExpression(random, modulus, tokens);
        answer(tokens, modulus, (i, value) => {
          if (target === "each" || i === length - 1) targets[i] = value;
        });
      },
    };
  },
};

function writeExpression(random: Random, modulus: number, tokens: Int32Array): void {
  for (let i = 0; i < tokens.length; i++)
    tokens[i] = i % 2 === 0 ? random.integer(modulus) : modulus + random.integer(OPERATORS);
  if (tokens.length % 2 === 0) tokens[tokens.length - 1] = modulus + OPERATORS;
}

/** Tells the value of the expression up to every number, and at "=". */
function answer(tokens: Int32Array, modulus: number, tell: (index: number, value: number) => void): void {
  const plus = modulus;
  const times = modulus + 2;
  // The value is sum + product: the terms that are complete, and the one that * may still continue.
  let sum = 0;
  let product = 1;
  let operator = times;
  for (const [i, token] of tokens.entries()) {
    if (token < modulus) {
      if (operator === times) product = (product * token) % modulus;
      else {
        sum = (sum + product) % modulus;
        product = operator === plus ? token : (modulus - token) % modulus;
      }
      tell(i, (sum + product) % modulus);
    } else if (token > times) tell(i, (sum + product) % modulus);
    else operator = token;
  }
}
