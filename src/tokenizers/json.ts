// JSON of a tokenizer file: reading it, and refusing it with a message that names the file, the rule, what came, and the remedy.

import { ConfigError } from "../core/errors.ts";

/** Any JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Throws the ConfigError of a file: which, what rule, what came, what to do. */
export function refuse(where: string, rule: string, got: string): never {
  throw new ConfigError(
    `${where}: ${rule}, got ${got}. Fetch the file again, or save the tokenizer anew with Hugging Face tokenizers.`,
  );
}

/** A foreign value for a message: short, whatever it is. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value) ?? typeof value;
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** A JSON object from text. @throws ConfigError when it is not one. */
export function parseObject(where: string, text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    refuse(where, "must be JSON", error instanceof Error ? error.message : String(error));
  }
  if (!isObject(value)) refuse(where, "must hold a JSON object", show(value));
  return value;
}

/** Whether a value is an object and no list. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
