// Tests of tokenizers from tokenizer.json: ids and text equal Hugging Face's own (Rust), streams equal the whole.

import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError, DataError } from "../core/errors.ts";
import { createTokenizer } from "./hugging-face.ts";
import { loadTokenizer } from "./load.ts";
import type { Tokenizer } from "./tokenizer.ts";

const read = (name: string): string =>
  readFileSync(new URL(`../../test/fixtures/tokenizers/${name}`, import.meta.url), "utf8");
const load = (name: string): Tokenizer =>
  createTokenizer(read(`${name}.tokenizer.json`), read(`${name}.tokenizer_config.json`));
interface Expected {
  cases: { text: string; ids: number[]; decoded: string }[];
}

describe.each(["neox-like", "llama-like"])("%s", (name) => {
  const tokenizer = load(name);
  const { cases } = JSON.parse(read(`${name}.expected.json`)) as Expected;

  it.each(cases)("encodes and decodes $text as Hugging Face does", ({ text, ids, decoded }) => {
    expect([...tokenizer.encode(text)]).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(decoded);
  });

  it("streams what decode gives, for any text and for any ids", () => {
    const stream = (ids: ArrayLike<number>): string[] => {
      const detokenizer = tokenizer.createDetokenizer();
      return [...Array.from(ids, (id) => detokenizer.push(id)), detokenizer.flush()];
    };
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
        const ids = tokenizer.encode(text);
        const pieces = stream(ids);
        expect(pieces.join("")).toBe(tokenizer.decode(ids));
        expect(pieces.join("")).toBe(name === "neox-like" ? text.normalize("NFC") : text);
        expect(pieces.some((piece) => piece.includes("\ufffd"))).toBe(text.includes("\ufffd"));
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.vocabSize - 1), { maxLength: 100 }), (ids) => {
        expect(stream(ids).join("")).toBe(tokenizer.decode(ids));
      }),
      { numRuns: 300 },
    );
  });

  it("gives its files back, and they make the same tokenizer", async () => {
    const files = tokenizer.files();
    const again = await loadTokenizer(async (file) => files[file], 512);
    expect([...again!.encode("The sea\n\n    looked 🙂")]).toEqual([...tokenizer.encode("The sea\n\n    looked 🙂")]);
    expect(again!.endOfText).toBe(tokenizer.endOfText);
  });

  it("has no text for padded ids and refuses what is no id", () => {
    const ids = [...tokenizer.encode("The sea")];
    expect(tokenizer.decode([...ids, tokenizer.vocabSize, 50_000])).toBe(tokenizer.decode(ids));
    expect(tokenizer.decode([])).toBe("");
    expect(() => tokenizer.decode([-1])).toThrow(DataError);
  });
});

describe("createTokenizer", () => {
  it("knows sizes and the end of text", () => {
    const [neox, llama] = [load("neox-like"), load("llama-like")];
    expect([neox.name, neox.vocabSize, neox.endOfText]).toEqual(["BPE", 404, 0]);
    expect([llama.name, llama.vocabSize, llama.endOfText]).toEqual(["BPE", 340, 2]);
    expect(createTokenizer(read("neox-like.tokenizer.json")).endOfText).toBe(0);
  });

  it("decodes a whole byte-fallback text as the library does, far beyond the window", () => {
    const tokenizer = load("llama-like");
    const text = "The old man 你好🙂 looked\n".repeat(40);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    const halves = Array.from({ length: 200 }, (_, i) => 3 + [0xff, 0xe4, 0xbd, 0xf0, 0x9f][i % 5]);
    const bytes = Uint8Array.from(halves, (id) => id - 3);
    expect(tokenizer.decode(halves)).toBe(new TextDecoder().decode(bytes));
  });

  it("says which file, rule and remedy when a file is damaged", () => {
    const json = read("neox-like.tokenizer.json");
    const message = (text: string, config?: string): string => {
      try {
        createTokenizer(text, config, "model/tokenizer.json");
      } catch (error) {
        if (error instanceof ConfigError) return error.message;
        throw error;
      }
      return "nothing was thrown";
    };
    expect(message(json.slice(0, 1000))).toMatch(/^model\/tokenizer\.json: must be JSON, got .*Fetch the file again/s);
    expect(message("[]")).toContain("must hold a JSON object, got a list of 0");
    expect(message("{}")).toContain("`model` must be an object, got nothing");
    expect(message(json.replace('"Ġt":', '"Ġtt":'))).toContain('must use tokens of model.vocab, got "Ġt"');
    expect(message(json.replace('"type":"BPE"', '"type":"Magic"'))).toContain("model.type must be");
    expect(message(json.replace('"type":"NFC"', '"type":"Shout"'))).toContain("Unknown Normalizer type: Shout");
    expect(message(json.replace('"id":0', '"id":-3'))).toContain("added_tokens[0].id must be an integer from 0");
    expect(message(json, '{"eos_token":"<|nowhere|>"}')).toMatch(
      /^model\/tokenizer_config\.json: eos_token must be a token/,
    );
    expect(message(json, "oops")).toMatch(/^model\/tokenizer_config\.json: must be JSON/);
  });

  it("refuses patterns that could take for ever, and takes those of published tokenizers", () => {
    const withRegex = (regex: string): string => {
      const json = JSON.parse(read("neox-like.tokenizer.json")) as Record<string, unknown>;
      json["pre_tokenizer"] = {
        type: "Sequence",
        pretokenizers: [
          { type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false },
          { type: "ByteLevel", add_prefix_space: false, use_regex: false },
        ],
      };
      return JSON.stringify(json);
    };
    for (const regex of ["(a+)+$", "(a|a)*b", "((x*)y?){2,}", "(\\p{L}+)*!", "([ab]+c?)+", "(a{2,}){30}"]) {
      expect(() => createTokenizer(withRegex(regex))).toThrow(/could take for ever/);
    }
    const published = [
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s+",
      "[0-9][0-9][0-9]",
    ];
    for (const regex of published) {
      const tokenizer = createTokenizer(withRegex(regex));
      expect(tokenizer.decode(tokenizer.encode("The sea, it's 12345.\n\n  x"))).toBe("The sea, it's 12345.\n\n  x");
    }
  });
});

describe("loadTokenizer", () => {
  const from = (files: Record<string, string>, vocabSize: number): Promise<Tokenizer | undefined> =>
    loadTokenizer(async (name) => files[name], vocabSize, "folder");

  it("takes tokenizer.json, else bytes, else nothing", async () => {
    expect((await from({ "tokenizer.json": read("neox-like.tokenizer.json") }, 512))?.vocabSize).toBe(404);
    expect((await from({}, 256))?.name).toBe("bytes");
    expect(await from({}, 512)).toBeUndefined();
    const bytes = await from({}, 256);
    expect((await from(bytes!.files(), 320))?.name).toBe("bytes");
  });

  it("refuses a tokenizer with more tokens than the model", async () => {
    await expect(from({ "tokenizer.json": read("neox-like.tokenizer.json") }, 400)).rejects.toThrow(
      "folder/tokenizer.json: a tokenizer must not have more tokens than its model, got 404 against vocab_size 400",
    );
  });
});
