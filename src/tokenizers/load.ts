// Finding the tokenizer of a checkpoint folder.

import { ConfigError } from "../core/errors.ts";
import { BYTE_TOKENIZER_CLASS, createByteTokenizer } from "./bytes.ts";
import { parseObject } from "./json.ts";
import { createTokenizer } from "./hugging-face.ts";
import type { Tokenizer } from "./tokenizer.ts";

/**
 * The tokenizer of a checkpoint: from `tokenizer.json` where there is one; bytes where `tokenizer_config.json` says so or the
 * vocabulary has exactly 256 tokens; else undefined (the model then works on token ids alone).
 * @param read Gives the text of a file of the folder, undefined when it is not there.
 * @param vocabSize Rows of the model's embedding.
 * @param folder What stands before the file's name in messages.
 * @throws ConfigError when a file is damaged or the tokenizer has more tokens than the model.
 */
export async function loadTokenizer(
  read: (name: string) => Promise<string | undefined>,
  vocabSize: number,
  folder = "",
): Promise<Tokenizer | undefined> {
  const at = (name: string): string => (folder === "" ? name : `${folder.replace(/[/\\]$/, "")}/${name}`);
  const json = await read("tokenizer.json");
  const config = await read("tokenizer_config.json");
  if (json !== undefined)
    return checkSize(createTokenizer(json, config, at("tokenizer.json")), vocabSize, at("tokenizer.json"));
  const isBytes =
    config !== undefined &&
    parseObject(at("tokenizer_config.json"), config)["tokenizer_class"] === BYTE_TOKENIZER_CLASS;
  if (isBytes) return checkSize(createByteTokenizer(), vocabSize, at("tokenizer_config.json"));
  return vocabSize === 256 ? createByteTokenizer() : undefined;
}

function checkSize(tokenizer: Tokenizer, vocabSize: number, where: string): Tokenizer {
  if (tokenizer.vocabSize <= vocabSize) return tokenizer;
  throw new ConfigError(
    `${where}: a tokenizer must not have more tokens than its model, got ${tokenizer.vocabSize} against vocab_size ${vocabSize}. Take the tokenizer that came with this checkpoint.`,
  );
}
