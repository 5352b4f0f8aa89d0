// The byte tokenizer: a token is a byte of UTF-8, an id is its value.

import { createByteDetokenizer, decodeAll } from "./detokenize.ts";
import type { Detokenizer, Tokenizer } from "./tokenizer.ts";

/** The tokenizer_class that marks a checkpoint folder of a byte model. */
export const BYTE_TOKENIZER_CLASS = "MambaTsByteTokenizer";

const BYTE_COUNT = 256;

/**
 * A tokenizer of 256 ids, one a byte of UTF-8. `endOfText` is undefined: no byte is kept from the text for it, and documents are
 * told apart by their boundaries in the data (the model's state is reset there), not by a token. Lone surrogates, which UTF-8
 * cannot write, become U+FFFD. Ids from 256 on (padding) are no text.
 */
export function createByteTokenizer(): Tokenizer {
  const bytes = Array.from({ length: BYTE_COUNT }, (_, byte) => Uint8Array.of(byte));
  const encoder = new TextEncoder();
  const createDetokenizer = (): Detokenizer => createByteDetokenizer((id) => bytes[id]);
  return {
    name: "bytes",
    vocabSize: BYTE_COUNT,
    endOfText: undefined,
    encode: (text) => Int32Array.from(encoder.encode(text)),
    decode: (ids) => decodeAll(createDetokenizer(), ids),
    createDetokenizer,
    files: () => ({
      "tokenizer_config.json": `${JSON.stringify({ tokenizer_class: BYTE_TOKENIZER_CLASS }, null, 2)}\n`,
    }),
  };
}
