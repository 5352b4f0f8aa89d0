// Thousands of damaged tokenizer.json files: each is refused with a MambaError or works; none crashes or hangs.

import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MambaError } from "../core/errors.ts";
import { createTokenizer } from "./hugging-face.ts";

const read = (name: string): string =>
  readFileSync(new URL(`../../test/fixtures/tokenizers/${name}`, import.meta.url), "utf8");
const TEXTS = ["The old man  looked\n\n at 你好 🙂", "<|endoftext|></s> a", "x".repeat(300), "\ud800\0\u0301", ""];

/** Builds and uses a tokenizer; true when that works or a MambaError of the right form says why not. */
function isHandled(json: string, config?: string): boolean {
  try {
    const tokenizer = createTokenizer(json, config);
    for (const text of TEXTS) {
      const ids = tokenizer.encode(text);
      for (const id of ids)
        if (id < 0 || id >= tokenizer.vocabSize) throw new Error(`id ${id} of ${tokenizer.vocabSize}`);
      tokenizer.decode(ids);
    }
    tokenizer.decode([0, 1, 200, 300, 70_000]);
    return true;
  } catch (error) {
    if (!(error instanceof MambaError)) throw error;
    return /: .*, got .*\. /s.test(error.message);
  }
}

/** Every place in a JSON value, without the bulk of vocabulary and merges. */
function pathsOf(value: unknown, path: string[] = []): string[][] {
  if (typeof value !== "object" || value === null) return [path];
  const keys = Object.keys(value).slice(0, 12);
  return [path, ...keys.flatMap((key) => pathsOf((value as Record<string, unknown>)[key], [...path, key]))];
}

function replaceAt(json: string, path: readonly string[], value: unknown): string {
  if (path.length === 0) return JSON.stringify(value) ?? "";
  const root = JSON.parse(json) as Record<string, unknown>;
  let parent = root;
  for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>;
  const last = path.at(-1)!;
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return JSON.stringify(root);
}

const hostile = fc.oneof(
  fc.constantFrom<unknown>(
    undefined,
    null,
    true,
    0,
    -1,
    1e9,
    2 ** 53,
    1.5,
    "",
    "a",
    " ",
    "<0x41>",
    [],
    {},
    [[]],
    ["a b"],
    [["a", "b"]],
    "(a+)+",
    "[",
    "\\",
    "__proto__",
  ),
  fc.constantFrom<unknown>(
    { type: "Replace", pattern: { String: "a" }, content: "a".repeat(900) },
    { type: "Replace", pattern: { Regex: "" }, content: "ab" },
    { type: "Split", pattern: { Regex: "(x+x+)+y" }, behavior: "Isolated", invert: false },
    { type: "Sequence", normalizers: [null], pretokenizers: [null], decoders: [null] },
    { type: "FixedLength", length: 0 },
    { type: "Precompiled", precompiled_charsmap: 7 },
    { type: "Metaspace", replacement: 3 },
    { type: "BertNormalizer" },
    { type: "WordPiece", prefix: "##", cleanup: true, vocab: { a: 0 } },
    { type: "CTC" },
    { type: "Unigram", vocab: [["a", -1]], unk_id: 0 },
  ),
  fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<unknown>,
);

describe.each(["neox-like", "llama-like"])("a damaged %s tokenizer.json", (name) => {
  const json = read(`${name}.tokenizer.json`);
  const paths = pathsOf(JSON.parse(json));

  it("is refused or works when a value is replaced (1000 times)", () => {
    const property = fc.property(fc.constantFrom(...paths), hostile, (path, value) =>
      isHandled(replaceAt(json, path, value)),
    );
    expect(fc.check(property, { numRuns: 1000 })).toMatchObject({ failed: false });
  });

  it("is refused or works when characters are cut, changed or repeated (1000 times)", () => {
    const edit = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      cut: fc.nat(6),
      put: fc.string({ maxLength: 4 }),
    });
    const property = fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), fc.boolean(), (edits, isTruncated) => {
      let text = json;
      for (const { at, cut, put } of edits) {
        const start = Math.floor(at * text.length);
        text = text.slice(0, start) + put + text.slice(start + cut);
      }
      return isHandled(isTruncated ? text.slice(0, Math.floor(edits[0].at * text.length)) : text);
    });
    expect(fc.check(property, { numRuns: 1000 })).toMatchObject({ failed: false });
  });

  it("is refused or works beside any tokenizer_config.json (500 times)", () => {
    const keys = fc.constantFrom(
      "eos_token",
      "remove_space",
      "do_lowercase_and_remove_accent",
      "additional_special_tokens",
      "tokenizer_class",
    );
    const property = fc.property(fc.dictionary(keys, hostile), (config) => isHandled(json, JSON.stringify(config)));
    expect(fc.check(property, { numRuns: 500 })).toMatchObject({ failed: false });
  });
});
