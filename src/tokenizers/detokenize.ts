// Detokenizers: byte strings through a streaming UTF-8 decoder, and a sliding window for decoders that only know whole lists.

import { DataError } from "../core/errors.ts";
import type { Detokenizer } from "./tokenizer.ts";

/** Bytes of a token, `{ text }` of a token that stands outside the bytes around it, or undefined for an id without text. */
export type TokenBytes = (id: number) => Uint8Array | { readonly text: string } | undefined;

/** A detokenizer for tokens that are strings of UTF-8 bytes, characters cut anywhere. */
export function createByteDetokenizer(bytesOf: TokenBytes): Detokenizer {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    push(id: number): string {
      const token = bytesOf(checkId(id));
      if (token === undefined) return "";
      if (token instanceof Uint8Array) return decoder.decode(token, { stream: true });
      return decoder.decode() + token.text;
    },
    flush: () => decoder.decode(),
  };
}

const WINDOW = 32;

/**
 * A detokenizer over `decode`, which turns a whole list of ids into text. Keeps the last 16 to 32 ids and returns what their
 * text gained; a last U+FFFD waits for the next id. Exact for decoders that look at most 16 tokens around (ByteLevel, ByteFallback,
 * Metaspace, Replace, Strip); for those that look at all (CTC) or clean up (WordPiece) it is close.
 */
export function createWindowDetokenizer(decode: (ids: readonly number[]) => string): Detokenizer {
  let ids: number[] = [];
  let said = 0;
  let waiting = "";
  return {
    push(id: number): string {
      ids.push(checkId(id));
      const text = decode(ids);
      const end = text.endsWith("\ufffd") ? text.length - 1 : text.length;
      const gained = text.slice(said, end);
      waiting = text.slice(end);
      said = Math.max(said, end);
      if (ids.length >= WINDOW) {
        ids = ids.slice(-WINDOW / 2);
        said = decode(ids).length - waiting.length;
      }
      return gained;
    },
    flush(): string {
      const rest = waiting;
      ids = [];
      said = 0;
      waiting = "";
      return rest;
    },
  };
}

/** The text of all ids by a fresh detokenizer. */
export function decodeAll(detokenizer: Detokenizer, ids: ArrayLike<number>): string {
  const pieces: string[] = [];
  for (let i = 0; i < ids.length; i++) pieces.push(detokenizer.push(ids[i]));
  pieces.push(detokenizer.flush());
  return pieces.join("");
}

function checkId(id: number): number {
  if (Number.isInteger(id) && id >= 0) return id;
  throw new DataError(
    `tokenizer: a token id must be an integer >= 0, got ${id}. Decode only ids that encode or a model gave.`,
  );
}
