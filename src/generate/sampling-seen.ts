// The set of token ids seen so far: one bit an id, so that its memory is bounded by the vocabulary and not by the text.

import { DataError } from "../core/errors.ts";

const LARGEST_ID = 2 ** 26 - 1;

/** A set of token ids, 0 .. 2^26 - 1. */
export class SeenTokens {
  #words = new Uint32Array(64);

  /** Adds an id. @throws DataError when it is no token id. */
  add(id: number): void {
    if (!Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
      throw new DataError(
        `sampling: a token id must be an integer from 0 to ${LARGEST_ID}, got ${id}. Encode the prompt with the model's tokenizer.`,
      );
    }
    const word = id >>> 5;
    if (word >= this.#words.length) this.#grow(word + 1);
    this.#words[word] |= 1 << (id & 31);
  }

  /** Calls `visit` with every id below `bound`, ascending. */
  forEachBelow(bound: number, visit: (id: number) => void): void {
    for (let word = 0; word < this.#words.length && word * 32 < bound; word++) {
      for (let bits = this.#words[word]; bits !== 0; bits &= bits - 1) {
        const id = word * 32 + 31 - Math.clz32(bits & -bits);
        if (id < bound) visit(id);
      }
    }
  }

  /** Every id, ascending. */
  toArray(): number[] {
    const ids: number[] = [];
    this.forEachBelow(LARGEST_ID + 1, (id) => ids.push(id));
    return ids;
  }

  #grow(least: number): void {
    const words = new Uint32Array(Math.max(least, this.#words.length * 2));
    words.set(this.#words);
    this.#words = words;
  }
}
