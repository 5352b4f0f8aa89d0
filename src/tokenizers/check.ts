// Checks a tokenizer.json before anything is built from it: every list, id and pattern that could crash, hang or lie.
// Source of the format: https://github.com/huggingface/tokenizers (serialised Tokenizer, version 1.0).

import { checkPattern } from "./check-pattern.ts";
import type { JsonObject } from "./json.ts";
import { isObject, refuse, show } from "./json.ts";

/** The parts of a checked tokenizer.json that we read ourselves; the rest stays as it came. */
export interface CheckedTokenizer {
  readonly json: JsonObject;
  readonly model: JsonObject;
  readonly added: readonly AddedToken[];
  readonly vocabSize: number;
}

/** An added token: text that is matched before the model sees it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
  readonly single_word?: boolean;
  readonly normalized?: boolean;
  readonly special?: boolean;
}

const LARGEST_ID = 2 ** 24 - 1;
const DEEPEST = 8;
const MOST_GROWTH = 1000;

/** Checks a parsed tokenizer.json. @throws ConfigError naming `where` and the rule. */
export function checkTokenizer(where: string, json: JsonObject): CheckedTokenizer {
  const model = json["model"];
  if (!isObject(model)) refuse(where, "`model` must be an object", show(model));
  const vocabSize = checkModel(where, model);
  const added = checkAdded(where, json["added_tokens"] ?? []);
  const parts = ["normalizer", "pre_tokenizer", "decoder"] as const;
  for (const part of parts) checkPart(where, part, json[part] ?? null);
  return { json, model, added, vocabSize: added.reduce((size, token) => Math.max(size, token.id + 1), vocabSize) };
}

function checkModel(where: string, model: JsonObject): number {
  const { type, vocab } = model;
  for (const name of ["unk_token", "continuing_subword_prefix", "end_of_word_suffix"]) {
    const value = model[name] ?? null;
    if (value !== null && typeof value !== "string")
      refuse(where, `model.${name} must be a string or null`, show(value));
  }
  // Files from before 2020 leave the type out of BPE models.
  if (type === "BPE" || (type === undefined && "merges" in model)) {
    const ids = checkVocabulary(where, vocab);
    checkMerges(where, model, vocab as JsonObject);
    return ids;
  }
  if (type === "WordPiece") return checkVocabulary(where, vocab);
  if (type === "Unigram") return checkUnigram(where, model);
  return refuse(where, 'model.type must be "BPE", "Unigram" or "WordPiece"', show(type));
}

function checkVocabulary(where: string, vocab: unknown): number {
  if (!isObject(vocab)) refuse(where, "model.vocab must be an object of tokens and ids", show(vocab));
  const tokenOf = new Map<number, string>();
  let size = 0;
  for (const [token, id] of Object.entries(vocab)) {
    checkId(where, `model.vocab[${show(token)}]`, id);
    const other = tokenOf.get(id);
    if (other !== undefined)
      refuse(where, "ids in model.vocab must differ", `${id} for both ${show(other)} and ${show(token)}`);
    tokenOf.set(id, token);
    size = Math.max(size, id + 1);
  }
  if (size === 0) refuse(where, "model.vocab must hold at least one token", "none");
  return size;
}

function checkId(where: string, what: string, id: unknown): asserts id is number {
  if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
    refuse(where, `${what} must be an integer from 0 to ${LARGEST_ID}`, show(id));
  }
}

function checkMerges(where: string, model: JsonObject, vocab: JsonObject): void {
  const merges = model["merges"];
  if (!Array.isArray(merges)) refuse(where, "model.merges must be a list", show(merges));
  const prefix = model["continuing_subword_prefix"] ?? "";
  for (const [index, merge] of (merges as unknown[]).entries()) {
    const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === "string" && part !== "")) {
      refuse(where, `model.merges[${index}] must be two tokens`, show(merge));
    }
    if (typeof merge !== typeof merges[0]) refuse(where, "model.merges must be all strings or all lists", "both");
    const [left, right] = pair as [string, string];
    if (prefix !== "") continue;
    for (const token of [left, right, left + right]) {
      if (!Object.hasOwn(vocab, token))
        refuse(where, `model.merges[${index}] must use tokens of model.vocab`, show(token));
    }
  }
}

function checkUnigram(where: string, model: JsonObject): number {
  const { vocab, unk_id: unknown } = model;
  if (!Array.isArray(vocab) || vocab.length === 0)
    refuse(where, "model.vocab must be a list of tokens and scores", show(vocab));
  for (const [index, entry] of (vocab as unknown[]).entries()) {
    const isPair = Array.isArray(entry) && typeof entry[0] === "string" && entry[0] !== "" && Number.isFinite(entry[1]);
    if (!isPair) refuse(where, `model.vocab[${index}] must be a token and a finite score`, show(entry));
  }
  checkId(where, "model.unk_id", unknown);
  if (unknown >= vocab.length) refuse(where, `model.unk_id must be below ${vocab.length}`, show(unknown));
  return vocab.length;
}

function checkAdded(where: string, added: unknown): readonly AddedToken[] {
  if (!Array.isArray(added)) refuse(where, "added_tokens must be a list", show(added));
  for (const [index, token] of (added as unknown[]).entries()) {
    if (!isObject(token)) refuse(where, `added_tokens[${index}] must be an object`, show(token));
    checkId(where, `added_tokens[${index}].id`, token["id"]);
    const content = token["content"];
    if (typeof content !== "string" || content === "")
      refuse(where, `added_tokens[${index}].content must be text`, show(content));
    for (const flag of ["lstrip", "rstrip", "single_word", "normalized", "special"]) {
      const value = token[flag] ?? false;
      if (typeof value !== "boolean")
        refuse(where, `added_tokens[${index}].${flag} must be true or false`, show(value));
    }
  }
  return added as readonly AddedToken[];
}

/** A normalizer, pre_tokenizer or decoder, or a sequence of them. Returns by how much it may lengthen a text. */
function checkPart(where: string, name: string, part: unknown, depth = 0): number {
  if (part === null) return 1;
  if (!isObject(part)) refuse(where, `${name} must be an object or null`, show(part));
  if (typeof part["type"] !== "string") refuse(where, `${name}.type must be a string`, show(part["type"]));
  if (depth > DEEPEST) refuse(where, `${name} must not be nested deeper than ${DEEPEST}`, "more");
  let growth = 1;
  for (const key of ["normalizers", "pretokenizers", "decoders"]) {
    const inner = part[key] ?? [];
    if (!Array.isArray(inner)) refuse(where, `${name}.${key} must be a list`, show(inner));
    for (const [index, item] of (inner as unknown[]).entries()) {
      // A null inside a sequence would crash the decoder of the library.
      if (!isObject(item)) refuse(where, `${name}.${key}[${index}] must be an object`, show(item));
      growth *= checkPart(where, `${name}.${key}[${index}]`, item, depth + 1);
    }
  }
  growth *= checkFields(where, name, part);
  if (growth > MOST_GROWTH)
    refuse(where, `${name} must not lengthen text more than ${MOST_GROWTH} times`, `${growth} times`);
  return growth;
}

const TEXT_FIELDS = [
  "content",
  "prepend",
  "replacement",
  "suffix",
  "prefix",
  "pad_token",
  "word_delimiter_token",
  "delimiter",
  "behavior",
];
const COUNT_FIELDS = ["start", "stop", "length"];

function checkFields(where: string, name: string, part: JsonObject): number {
  let growth = 1;
  for (const field of TEXT_FIELDS) {
    const value = part[field] ?? "";
    if (typeof value !== "string") refuse(where, `${name}.${field} must be a string`, show(value));
    growth += value.length;
  }
  for (const field of COUNT_FIELDS) {
    const value = part[field] ?? 1;
    const least = field === "length" ? 1 : 0;
    if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > 10_000) {
      refuse(where, `${name}.${field} must be an integer from ${least} to 10000`, show(value));
    }
  }
  if (part["pattern"] !== undefined || part["type"] === "Replace" || part["type"] === "Split")
    checkPattern(where, `${name}.pattern`, part["pattern"]);
  // Text fields that name something, or a single character for a single character, lengthen nothing.
  const matchesNothing = isObject(part["pattern"]) && part["pattern"]["String"] === undefined;
  return part["type"] === "Replace" ? Math.max(1, matchesNothing ? growth : growth - 1) : 1;
}
