// Byte-level BPE (GPT-2, GPT-NeoX): the alphabet that writes bytes as letters, and a quick encoder that remembers words.
// Sources: OpenAI gpt-2 encoder.py (bytes_to_unicode); Hugging Face tokenizers, pre_tokenizers/byte_level.rs.

import type { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import type { AddedToken, CheckedTokenizer } from "./check.ts";
import { isObject } from "./json.ts";

/** The letter of every byte: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up. */
export const LETTER_OF_BYTE: readonly string[] = lettersOfBytes();
const BYTE_OF_LETTER: ReadonlyMap<string, number> = new Map(LETTER_OF_BYTE.map((letter, byte) => [letter, byte]));

function lettersOfBytes(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
    return String.fromCharCode(isPrintable ? byte : next++);
  });
}

/** The bytes that a token's letters stand for; the token's own UTF-8 when a letter stands for none (as Hugging Face does). */
export function bytesOfToken(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const letter of token) {
    const byte = BYTE_OF_LETTER.get(letter);
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

/** Whether the quick encoder gives what the file asks for: plain byte-level BPE with or without NFC, added tokens as they stand. */
export function isPlainByteLevel({ json, model, added }: CheckedTokenizer): boolean {
  const before = json["pre_tokenizer"];
  const normalizer = json["normalizer"] ?? null;
  return (
    isObject(before) &&
    before["type"] === "ByteLevel" &&
    before["add_prefix_space"] === false &&
    (before["use_regex"] ?? true) === true &&
    (normalizer === null || (isObject(normalizer) && normalizer["type"] === "NFC")) &&
    model["type"] !== "WordPiece" &&
    model["type"] !== "Unigram" &&
    !model["fuse_unk"] &&
    !added.some((token) => token.lstrip || token.rstrip || token.single_word)
  );
}

// GPT-2's pattern with Unicode's white space, as Oniguruma's \s means it; JavaScript's \s takes U+FEFF in and leaves U+0085 out.
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const LONGEST_REMEMBERED = 48;
const MOST_REMEMBERED = 2 ** 16;

/**
 * Encoder for plain byte-level BPE: added tokens are cut out, the rest is cut into words by GPT-2's pattern, and each word goes
 * through the library's merges once and is then remembered. Words are independent, so the result is the library's.
 */
export function createByteLevelEncoder(
  library: LibraryTokenizer,
  checked: CheckedTokenizer,
): (text: string) => Int32Array {
  const hasNormalizer = (checked.json["normalizer"] ?? null) !== null;
  const isNormalized = (token: AddedToken): boolean => hasNormalizer && (token.normalized ?? !token.special);
  const normalize = (text: string): string => (hasNormalizer ? text.normalize("NFC") : text);
  const asIs = createCutter(checked.added.filter((token) => !isNormalized(token)));
  const normalized = createCutter(
    checked.added.filter(isNormalized).map((token) => ({ ...token, content: normalize(token.content) })),
  );
  const idsOfWord = createWordEncoder(library);
  return (text) => {
    const ids = new GrowingIds();
    const encodePart = (part: string): void => {
      WORDS.lastIndex = 0;
      for (let match = WORDS.exec(part); match !== null; match = WORDS.exec(part)) ids.add(idsOfWord(match[0]));
    };
    const push = (id: number): void => ids.add([id]);
    asIs(text, push, (part) => normalized(normalize(part), push, encodePart));
    return ids.toArray();
  };
}

type Cutter = (text: string, onToken: (id: number) => void, onText: (part: string) => void) => void;

/** Cuts a text at added tokens: leftmost first, the longest of those that begin there. */
function createCutter(tokens: readonly Pick<AddedToken, "id" | "content">[]): Cutter {
  if (tokens.length === 0) return (text, _, onText) => onText(text);
  const idOf = new Map(tokens.map((token) => [token.content, token.id]));
  const longestFirst = [...idOf.keys()].sort((a, b) => b.length - a.length);
  // No "u" flag: contents are compared as the code units they are.
  const pattern = new RegExp(
    longestFirst.map((content) => content.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&")).join("|"),
    "g",
  );
  return (text, onToken, onText) => {
    let start = 0;
    for (const match of text.matchAll(pattern)) {
      if (match.index > start) onText(text.slice(start, match.index));
      onToken(idOf.get(match[0])!);
      start = match.index + match[0].length;
    }
    if (start < text.length) onText(text.slice(start));
  };
}

function createWordEncoder(library: LibraryTokenizer): (word: string) => readonly number[] {
  const encoder = new TextEncoder();
  const known = new Map<string, readonly number[]>();
  const model = library.model!;
  return (word) => {
    const before = known.get(word);
    if (before !== undefined) return before;
    let letters = "";
    for (const byte of encoder.encode(word)) letters += LETTER_OF_BYTE[byte];
    const ids = model.encode([letters]).map((token: string) => model.tokens_to_ids.get(token)!);
    if (word.length <= LONGEST_REMEMBERED) {
      if (known.size >= MOST_REMEMBERED) known.clear();
      known.set(word, ids);
    }
    return ids;
  };
}

/** A list of ids that grows by doubling. */
class GrowingIds {
  #ids = new Int32Array(1024);
  #length = 0;

  add(ids: readonly number[]): void {
    if (this.#length + ids.length > this.#ids.length) {
      const larger = new Int32Array(Math.max(2 * this.#ids.length, this.#length + ids.length));
      larger.set(this.#ids.subarray(0, this.#length));
      this.#ids = larger;
    }
    for (let i = 0; i < ids.length; i++) this.#ids[this.#length++] = ids[i]!;
  }

  toArray(): Int32Array {
    return this.#ids.slice(0, this.#length);
  }
}
