// Text to token data: documents of a text, and of files in Node.

import { DataError } from "../core/errors.ts";
import { checkNode } from "../core/node-only.ts";
import type { Tokenizer } from "../tokenizers/tokenizer.ts";
import type { TokenData } from "./token-data.ts";
import { joinDocuments } from "./token-data.ts";

/** How text becomes documents. */
export interface TextOptions {
  /** Documents are separated by lines that are exactly this text, e.g. `"<|endoftext|>"`; without it a text is one document. */
  readonly separator?: string | undefined;
  /** Whether the tokenizer's end-of-text token, where it has one, ends every document. Default true. */
  readonly appendEndOfText?: boolean | undefined;
}

/** The documents of a text: what stands between separator lines (which are dropped), without documents of white space alone. */
export function splitDocuments(text: string, separator?: string): string[] {
  if (separator === undefined || separator === "") return text.trim() === "" ? [] : [text];
  const escaped = separator.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
  return text.split(new RegExp(`^${escaped}\\r?(?:\\n|(?![^]))`, "m")).filter((document) => document.trim() !== "");
}

/**
 * Tokenises texts, each one document or, with a separator, several.
 * @throws DataError when nothing but white space is there.
 */
export function tokenizeTexts(texts: readonly string[], tokenizer: Tokenizer, options: TextOptions = {}): TokenData {
  const { separator, appendEndOfText = true } = options;
  const encoder = new TextEncoder();
  const documents: Int32Array[] = [];
  let bytes = 0;
  for (const text of texts.flatMap((text) => splitDocuments(text, separator))) {
    bytes += encoder.encode(text).length;
    const tokens = tokenizer.encode(text);
    documents.push(appendEndOfText ? withEnd(tokens, tokenizer.endOfText) : tokens);
  }
  return joinDocuments(documents, tokenizer.vocabSize, bytes);
}

function withEnd(tokens: Int32Array, end: number | undefined): Int32Array {
  if (end === undefined) return tokens;
  const whole = new Int32Array(tokens.length + 1);
  whole.set(tokens);
  whole[tokens.length] = end;
  return whole;
}

/**
 * The text of a file's bytes. A byte order mark is dropped; line ends stay as they are.
 * @throws DataError when it is not UTF-8 text.
 */
export function decodeText(bytes: Uint8Array, where: string): string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new DataError(
      `${where}: text must be UTF-8, got bytes that are not. Convert it (iconv -t utf-8), or is it no text file?`,
    );
  }
  const zero = text.indexOf("\0");
  if (zero < 0) return text;
  throw new DataError(
    `${where}: text must not hold zero bytes, got one after ${zero} characters. Is it UTF-16 or a binary file? Convert it to UTF-8.`,
  );
}

/**
 * Reads and tokenises text files, in the order given (Node only). A path may be a folder: all `*.txt` in it, sorted by name.
 * @throws DataError when a path is missing, empty, or not UTF-8 text.
 */
export async function loadTextFiles(
  paths: readonly string[],
  tokenizer: Tokenizer,
  options: TextOptions = {},
): Promise<TokenData> {
  checkNode("loadTextFiles", "In a browser give texts to tokenizeTexts.");
  const { readTextFiles } = await import("./text-node.ts");
  return tokenizeTexts(await readTextFiles(paths), tokenizer, options);
}
