// Refuses regular expressions of a tokenizer.json that could take exponential time on some text.

import { isObject, refuse, show } from "./json.ts";

const LONGEST_PATTERN = 2000;

/**
 * A pattern is `{String}` or `{Regex}`. A repeated group (`( ... )*`, `+`, `{2,}`) must not itself hold a repetition or
 * alternatives: such patterns, `(a+)+` or `(a|a)*`, may take exponential time. The patterns of published tokenizers hold none.
 * @throws ConfigError otherwise.
 */
export function checkPattern(where: string, name: string, pattern: unknown): void {
  if (!isObject(pattern)) refuse(where, `${name} must be an object`, show(pattern));
  const text = pattern["String"] ?? pattern["Regex"];
  if (typeof text !== "string" || text === "") refuse(where, `${name} must hold a String or a Regex`, show(text));
  if (text.length > LONGEST_PATTERN)
    refuse(where, `${name} must be at most ${LONGEST_PATTERN} characters`, String(text.length));
  if (pattern["String"] === undefined && hasNestedRepetition(text)) {
    refuse(
      where,
      `${name} must not repeat a group that repeats or chooses inside (it could take for ever)`,
      show(text),
    );
  }
}

function hasNestedRepetition(regex: string): boolean {
  const isRisky: boolean[] = [];
  for (let i = 0; i < regex.length; i++) {
    const char = regex[i];
    if (char === "\\") i += 1;
    else if (char === "[") i = endOfClass(regex, i);
    else if (char === "(") isRisky.push(false);
    else if (char === ")") {
      const wasRisky = isRisky.pop() ?? false;
      const isRepeated = repeats(regex, i + 1);
      if (wasRisky && isRepeated) return true;
      if (isRisky.length > 0 && (wasRisky || isRepeated)) isRisky[isRisky.length - 1] = true;
    } else if (isRisky.length > 0 && (char === "|" || repeats(regex, i))) isRisky[isRisky.length - 1] = true;
  }
  return false;
}

/** Whether an open-ended repetition, or a count of ten or more, stands at `i`. */
function repeats(regex: string, i: number): boolean {
  if (regex[i] === "*" || regex[i] === "+") return true;
  const counts = /^\{(\d*)(,?)(\d*)\}/.exec(regex.slice(i, i + 24));
  return counts !== null && ((counts[2] === "," && counts[3] === "") || Number(counts[3] || counts[1]) >= 10);
}

/** The index of the bracket that closes the character class which opens at `start`, classes inside it included. */
function endOfClass(regex: string, start: number): number {
  let depth = 0;
  for (let i = start; i < regex.length; i++) {
    if (regex[i] === "\\") i += 1;
    else if (regex[i] === "[") depth += 1;
    else if (regex[i] === "]" && --depth === 0) return i;
  }
  return regex.length;
}
