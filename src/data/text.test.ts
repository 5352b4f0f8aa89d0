// Tests of reading text: documents, files, folders, and everything that is not text.

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DataError } from "../core/errors.ts";
import { createByteTokenizer } from "../tokenizers/bytes.ts";
import type { Tokenizer } from "../tokenizers/tokenizer.ts";
import { loadTextFiles, splitDocuments, tokenizeTexts } from "./text.ts";
import type { TokenData } from "./token-data.ts";

const bytes = createByteTokenizer();
const withEnd: Tokenizer = { ...bytes, vocabSize: 257, endOfText: 256 };

/** The documents of token data as text. */
function textsOf({ tokens, documentStarts }: TokenData): string[] {
  return Array.from(documentStarts, (start, i) =>
    bytes.decode(tokens.subarray(start, documentStarts[i + 1] ?? tokens.length)),
  );
}

describe("splitDocuments", () => {
  it("splits at lines that are the separator, whatever the line ends, and drops empty documents", () => {
    const text = "<|x|>\none\n<|x|>\r\ntwo\r\n<|x|> no\n<|x|>\n \n<|x|>\nthree\n<|x|>";
    expect(splitDocuments(text, "<|x|>")).toEqual(["one\n", "two\r\n<|x|> no\n", "three\n"]);
    expect(splitDocuments(text)).toEqual([text]);
    expect(splitDocuments(" \n")).toEqual([]);
    expect(splitDocuments("a\n***\nb", "***")).toEqual(["a\n", "b"]);
  });
});

describe("tokenizeTexts", () => {
  it("ends documents with the end of text where there is one, and counts bytes of text alone", () => {
    const data = tokenizeTexts(["aé\n--\nb"], withEnd, { separator: "--" });
    expect([...data.tokens]).toEqual([97, 195, 169, 10, 256, 98, 256]);
    expect([...data.documentStarts, data.bytes]).toEqual([0, 5, 5]);
    expect([...tokenizeTexts(["a"], withEnd, { appendEndOfText: false }).tokens]).toEqual([97]);
    expect(tokenizeTexts(["a"], bytes).tokens).toEqual(Uint8Array.of(97));
  });
});

describe("loadTextFiles", () => {
  let folder = "";
  const write = async (name: string, content: string | Uint8Array): Promise<string> => {
    const path = join(folder, name);
    await writeFile(path, content);
    return path;
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "mamba-text-"));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  it("reads files in the order given and folders in the order of names", async () => {
    const books = join(folder, "books");
    await mkdir(join(books, "deeper.txt"), { recursive: true });
    const a = await write("books/a.txt", "first\r\n");
    await write("books/B.TXT", "capital");
    await write("books/notes.md", "no");
    expect(textsOf(await loadTextFiles([books], bytes))).toEqual(["capital", "first\r\n"]);
    expect(textsOf(await loadTextFiles([a, books], bytes))).toEqual(["first\r\n", "capital", "first\r\n"]);
  });

  it("drops a byte order mark", async () => {
    const data = await loadTextFiles([await write("mark.txt", "\ufeffa")], bytes);
    expect([textsOf(data), data.bytes]).toEqual([["a"], 1]);
  });

  it("names file, rule and remedy when there is no text", async () => {
    const refused = async (paths: string[], message: RegExp): Promise<void> => {
      const error: unknown = await loadTextFiles(paths, bytes).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(DataError);
      expect(String(error)).toMatch(message);
    };
    await refused([], /at least one text file/);
    await refused([join(folder, "missing.txt")], /missing\.txt: .*got ENOENT\. Is the path right\?/);
    await refused([await write("empty.txt", "")], /empty\.txt: a text must not be empty, got 0 bytes/);
    await refused([await write("blank.txt", " \n")], /white space alone/);
    await refused([await write("latin.txt", Uint8Array.of(99, 97, 102, 233, 10))], /latin\.txt: text must be UTF-8/);
    await refused([await write("wide.txt", Uint8Array.of(97, 0, 98, 0))], /zero bytes.*UTF-16/);
    await mkdir(join(folder, "none"));
    await refused([join(folder, "none")], /must hold \*\.txt files/);
  });
});
