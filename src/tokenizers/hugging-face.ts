// Tokenizers from a Hugging Face tokenizer.json, checked before they are built by @huggingface/tokenizers.
// Source: https://github.com/huggingface/tokenizers.js.

import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { ConfigError } from "../core/errors.ts";
import { bytesOfToken, createByteLevelEncoder, isPlainByteLevel } from "./byte-level.ts";
import type { CheckedTokenizer } from "./check.ts";
import { checkTokenizer } from "./check.ts";
import type { TokenBytes } from "./detokenize.ts";
import { createByteDetokenizer, createWindowDetokenizer, decodeAll } from "./detokenize.ts";
import type { JsonObject } from "./json.ts";
import { isObject, parseObject, refuse, show } from "./json.ts";
import type { Detokenizer, Tokenizer } from "./tokenizer.ts";

const USUAL_ENDS = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"];

/**
 * Makes a tokenizer from the text of a `tokenizer.json` and, if there is one, of the `tokenizer_config.json` beside it.
 * Of the latter only `eos_token`, `remove_space` and `do_lowercase_and_remove_accent` count: text is never "cleaned up", so that
 * decoding loses nothing and a stream equals the whole. Without `eos_token` the usual special tokens are looked for.
 * @param where The file's name for messages.
 * @throws ConfigError when a file is damaged, hostile, or of an unknown kind.
 */
export function createTokenizer(
  tokenizerJson: string,
  tokenizerConfigJson?: string,
  where = "tokenizer.json",
): Tokenizer {
  const checked = checkTokenizer(where, parseObject(where, tokenizerJson));
  const configWhere = where.replace(/[^/\\]*$/, "tokenizer_config.json");
  const config = tokenizerConfigJson === undefined ? {} : parseObject(configWhere, tokenizerConfigJson);
  const library = guarded(where, "building it", () => build(checked, config));
  const endOfText = findEndOfText(checked, library, config, configWhere);
  const isPlain = isPlainByteLevel(checked) && !config["remove_space"] && !config["do_lowercase_and_remove_accent"];
  const encode = isPlain ? createByteLevelEncoder(library, checked) : createLibraryEncoder(library);
  const createDetokenizer = detokenizerFactory(where, checked, library);
  const files: Record<string, string> = { "tokenizer.json": tokenizerJson };
  if (tokenizerConfigJson !== undefined) files["tokenizer_config.json"] = tokenizerConfigJson;
  return {
    name: typeof checked.model["type"] === "string" ? checked.model["type"] : "BPE",
    vocabSize: checked.vocabSize,
    endOfText,
    encode: (text) => guarded(where, "encoding text with it", () => checkIds(encode(text), checked.vocabSize)),
    decode: (ids) => decodeAll(createDetokenizer(), ids),
    createDetokenizer,
    files: () => ({ ...files }),
  };
}

function build(checked: CheckedTokenizer, config: JsonObject): LibraryTokenizer {
  const { json, model, added } = checked;
  const parts = {
    ...json,
    model: { ...model, type: model["type"] ?? "BPE" },
    added_tokens: added,
    normalizer: json["normalizer"] ?? null,
    pre_tokenizer: json["pre_tokenizer"] ?? null,
    decoder: json["decoder"] ?? null,
    // Only adds special tokens, which encode never asks for.
    post_processor: null,
  };
  const library = new LibraryTokenizer(parts, {
    remove_space: config["remove_space"] === true,
    do_lowercase_and_remove_accent: config["do_lowercase_and_remove_accent"] === true,
    ...(tokenText(config["eos_token"]) === undefined ? {} : { eos_token: tokenText(config["eos_token"]) }),
  });
  keepByteOrderMarks(library.decoder);
  return library;
}

/** The library (0.2.0) loses U+FEFF in byte fallback, because a TextDecoder drops it unless told otherwise. */
function keepByteOrderMarks(decoder: unknown): void {
  // Parts of the library are callable objects, and their classes are not among its types.
  if (typeof decoder !== "function") return;
  if ("decoders" in decoder && Array.isArray(decoder.decoders)) decoder.decoders.forEach(keepByteOrderMarks);
  if ("text_decoder" in decoder) decoder.text_decoder = new TextDecoder("utf-8", { ignoreBOM: true });
}

function createLibraryEncoder(library: LibraryTokenizer): (text: string) => Int32Array {
  return (text) => {
    const { ids } = library.encode(text, { add_special_tokens: false });
    // A token that the vocabulary lacks, without an unknown token to stand for it: -1 fails the check below.
    return Int32Array.from(ids, (id: number | undefined) => id ?? -1);
  };
}

function checkIds(ids: Int32Array, vocabSize: number): Int32Array {
  const isBad = (id: number): boolean => id < 0 || id >= vocabSize;
  if (ids.some(isBad))
    throw new Error(
      `it gives a token outside its ${vocabSize} ids: the vocabulary lacks a part of the text and has no unknown token`,
    );
  return ids;
}

function detokenizerFactory(where: string, checked: CheckedTokenizer, library: LibraryTokenizer): () => Detokenizer {
  const decoder = checked.json["decoder"];
  if (!isObject(decoder) || decoder["type"] !== "ByteLevel") {
    const isText = (id: number): boolean => library.id_to_token(id) !== undefined;
    const decode = (ids: readonly number[]): string => {
      const known = ids.filter(isText);
      if (known.length === 0) return "";
      return guarded(where, "decoding ids with it", () =>
        library.decode(known, { clean_up_tokenization_spaces: false }),
      );
    };
    return () => createWindowDetokenizer(decode);
  }
  const known = new Map<number, ReturnType<TokenBytes>>(
    checked.added.map(({ id, content }) => [id, { text: content }]),
  );
  const bytesOf: TokenBytes = (id) => {
    if (known.has(id)) return known.get(id);
    const token = id < checked.vocabSize ? library.id_to_token(id) : undefined;
    if (token === undefined) return undefined;
    const bytes = bytesOfToken(token);
    known.set(id, bytes);
    return bytes;
  };
  return () => createByteDetokenizer(bytesOf);
}

function findEndOfText(
  checked: CheckedTokenizer,
  library: LibraryTokenizer,
  config: JsonObject,
  where: string,
): number | undefined {
  const wanted = config["eos_token"] ?? null;
  if (wanted === null) {
    return USUAL_ENDS.map((end) => checked.added.find((token) => token.special && token.content === end)?.id).find(
      (id) => id !== undefined,
    );
  }
  const text = tokenText(wanted);
  if (text === undefined) refuse(where, "eos_token must be a token's text", show(wanted));
  const id = checked.added.find((token) => token.content === text)?.id ?? library.token_to_id(text);
  if (id === undefined) refuse(where, "eos_token must be a token of tokenizer.json", show(text));
  return id;
}

/** The text of a token of a configuration, which is a string or an object with `content`. */
function tokenText(token: unknown): string | undefined {
  const text = isObject(token) ? token["content"] : token;
  return typeof text === "string" ? text : undefined;
}

/** Turns what the library throws into a ConfigError that names the file. */
function guarded<T>(where: string, doing: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      `${where}: ${doing} must work, got an error: ${message}. Is it a kind of tokenizer that @huggingface/tokenizers lacks, or damaged?`,
      { cause: error },
    );
  }
}
