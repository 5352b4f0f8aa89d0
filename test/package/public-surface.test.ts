// The public names: a change here is a change that users see. Update the snapshot on purpose, and say so in CHANGELOG.md.
import { expect, it } from "vitest";
import * as library from "../../src/index.ts";

it("exports these names and no others", () => {
  expect(Object.keys(library).toSorted()).toMatchInlineSnapshot(`
    [
      "BackendError",
      "CheckpointError",
      "ConfigError",
      "DTypeError",
      "DataError",
      "Mamba",
      "MambaError",
      "MambaModel",
      "MambaState",
      "Parameter",
      "ShapeError",
      "Tape",
      "Tensor",
      "TextModel",
      "UsageError",
      "createByteTokenizer",
      "createRandom",
      "createSampler",
      "createTask",
      "createTextModel",
      "createTokenizer",
      "evaluateTask",
      "httpSource",
      "keep",
      "loadTextFiles",
      "loadTextModel",
      "mambaConfig",
      "memorySource",
      "openDevice",
      "openSource",
      "randomWindows",
      "scope",
      "streams",
      "taskBatches",
      "tensorFrom",
      "tokenizeTexts",
      "train",
      "zeros",
    ]
  `);
});
