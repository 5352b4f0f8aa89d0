// config.json: what is written parses to the same configuration, and damaged ones by the thousand give a configuration or one of our errors.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MambaError } from "../../core/errors.ts";
import type { MambaConfig } from "./config.ts";
import { mambaConfig, parseMambaConfig, toHuggingFaceConfig } from "./config.ts";

const RUNS = 2000;
/** Damage that changes a number to another possible one is not noticed; at least this many must be. */
const FEWEST_REFUSED = RUNS / 10;

const HUGGING_FACE = JSON.stringify(
  toHuggingFaceConfig(mambaConfig({ dModel: 24, nLayer: 2, vocabSize: 256, eosTokenId: 0 }), "float32"),
);
const STATE_SPACES = JSON.stringify({
  d_model: 24,
  d_intermediate: 0,
  n_layer: 2,
  vocab_size: 253,
  ssm_cfg: { layer: "Mamba1", d_state: 8, d_conv: 4, expand: 2, dt_rank: "auto" },
  attn_layer_idx: [],
  attn_cfg: {},
  rms_norm: true,
  pad_vocab_size_multiple: 8,
  tie_embeddings: true,
});

const configs: fc.Arbitrary<MambaConfig> = fc
  .record({
    dModel: fc.integer({ min: 1, max: 10_000 }),
    nLayer: fc.integer({ min: 1, max: 200 }),
    vocabSize: fc.integer({ min: 1, max: 1_000_000 }),
    dInner: fc.integer({ min: 1, max: 20_000 }),
    dState: fc.integer({ min: 1, max: 256 }),
    dConv: fc.integer({ min: 2, max: 4 }),
    dtRank: fc.integer({ min: 1, max: 500 }),
    useBias: fc.boolean(),
    useConvBias: fc.boolean(),
    tieEmbeddings: fc.boolean(),
    normEps: fc.double({ min: 1e-12, max: 0.5, noNaN: true }),
    eosTokenId: fc.option(fc.nat(100_000), { nil: undefined }),
  })
  .map((options) => mambaConfig(options));

/** A text with characters replaced, taken out or doubled. */
function damagedText(text: string): fc.Arbitrary<string> {
  const edit = fc.record({
    at: fc.nat(text.length - 1),
    remove: fc.nat(6),
    insert: fc.oneof(
      fc.string({ maxLength: 4 }),
      fc.constantFrom("-", "9999999999", "1e400", "null", "{", '"', ",", "\\u0000"),
    ),
  });
  return fc
    .array(edit, { minLength: 1, maxLength: 3 })
    .map((edits) =>
      edits.reduce((now, { at, remove, insert }) => now.slice(0, at) + insert + now.slice(at + remove), text),
    );
}

/** A text of JSON with one field, at the top or in ssm_cfg, of any other value, or without it. */
function damagedField(text: string): fc.Arbitrary<string> {
  const fields = JSON.parse(text) as Record<string, unknown>;
  const inner = Object.keys(fields["ssm_cfg"] ?? {});
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom(-1, 0, 0.5, 1e300, 2 ** 31, "auto", null, [], {}, undefined),
  );
  return fc
    .tuple(fc.constantFrom(...Object.keys(fields), ...inner.map((name) => `ssm_cfg.${name}`)), value)
    .map(([name, value]) => {
      const [outer, field] = name.split(".");
      return JSON.stringify(
        field === undefined
          ? { ...fields, [outer]: value }
          : { ...fields, ssm_cfg: { ...(fields["ssm_cfg"] as object), [field]: value } },
      );
    });
}

describe("config.json", () => {
  it("parses back to the configuration that it was written from", () => {
    fc.assert(
      fc.property(
        configs,
        fc.constantFrom("float32" as const, "float16" as const, "bfloat16" as const),
        (config, dtype) => {
          expect(parseMambaConfig(JSON.stringify(toHuggingFaceConfig(config, dtype)), "config.json")).toEqual(config);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("gives a configuration or one of our errors, however damaged", () => {
    const texts = [HUGGING_FACE, STATE_SPACES].flatMap((text) => [damagedText(text), damagedField(text)]);
    let refused = 0;
    fc.assert(
      fc.property(fc.oneof(...texts), (text) => {
        try {
          const config = parseMambaConfig(text, "folder: config.json");
          expect(mambaConfig(config)).toEqual(config);
        } catch (error) {
          if (!(error instanceof MambaError)) throw error;
          expect(error.message).toMatch(/^folder: config\.json: /);
          refused++;
        }
      }),
      { numRuns: RUNS },
    );
    expect(refused).toBeGreaterThan(FEWEST_REFUSED);
  });
});
