// Tests of the byte tokenizer: lossless both ways, and streams that never cut a character.

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DataError } from "../core/errors.ts";
import { createByteTokenizer } from "./bytes.ts";

const tokenizer = createByteTokenizer();

describe("createByteTokenizer", () => {
  it("gives the bytes of UTF-8", () => {
    expect([...tokenizer.encode("aé你🙂\0")]).toEqual([97, 195, 169, 228, 189, 160, 240, 159, 153, 130, 0]);
    expect(tokenizer.decode([97, 195, 169, 228, 189, 160, 240, 159, 153, 130, 0])).toBe("aé你🙂\0");
    expect([tokenizer.name, tokenizer.vocabSize, tokenizer.endOfText]).toEqual(["bytes", 256, undefined]);
    expect(tokenizer.encode("")).toEqual(new Int32Array(0));
  });

  it("keeps a byte order mark and turns lone surrogates into U+FFFD", () => {
    expect(tokenizer.decode(tokenizer.encode("\ufeffa"))).toBe("\ufeffa");
    expect(tokenizer.decode(tokenizer.encode("a\ud800b"))).toBe("a\ufffdb");
  });

  it("streams what decode gives, for any bytes, and holds every unfinished character back", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(255), fc.constantFrom(0xe4, 0xbd, 0xa0, 0xf0, 0x9f, 0x99, 0x82, 0xef, 0xbf)), {
          maxLength: 40,
        }),
        (ids) => {
          const detokenizer = tokenizer.createDetokenizer();
          const whole = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(ids));
          expect(ids.map((id) => detokenizer.push(id)).join("") + detokenizer.flush()).toBe(whole);
          expect(tokenizer.decode(ids)).toBe(whole);
        },
      ),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 20 }), (text) => {
        const detokenizer = tokenizer.createDetokenizer();
        const pieces = [...tokenizer.encode(text)].map((id) => detokenizer.push(id));
        expect(pieces.filter((piece) => piece !== "")).toEqual([...text]);
        expect(detokenizer.flush()).toBe("");
      }),
      { numRuns: 500 },
    );
  });

  it("has no text for padded ids and refuses what is no id", () => {
    expect(tokenizer.decode([97, 256, 300, 98])).toBe("ab");
    for (const id of [-1, 1.5, Number.NaN]) expect(() => tokenizer.decode([id])).toThrow(DataError);
  });

  it("starts anew after flush", () => {
    const detokenizer = tokenizer.createDetokenizer();
    expect([detokenizer.push(0xe4), detokenizer.flush(), detokenizer.push(97), detokenizer.flush()]).toEqual([
      "",
      "\ufffd",
      "a",
      "",
    ]);
  });
});
