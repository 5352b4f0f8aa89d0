// Evaluation with Mamba: side by side, alone, and in one forward call it is the same number.
import { describe, expect, it } from "vitest";
import { createRandom } from "../../src/core/random.ts";
import { scope } from "../../src/tensor/scope.ts";
import { tensorFrom } from "../../src/tensor/tensor.ts";
import { evaluate } from "../../src/train/evaluate.ts";
import { wasmBackend } from "../support/backends.ts";
import { tinyModel } from "../support/tiny-model.ts";

const random = createRandom(3);

describe("evaluate with Mamba on wasm", () => {
  it("is the same side by side, alone, and in one forward call; memory stays", async () => {
    const backend = await wasmBackend();
    const model = tinyModel(backend, { vocabSize: 64 });
    const text = Array.from({ length: 3001 }, () => random.integer(64));
    const together = await evaluate(model, text, { window: 100, bytes: 3001 });
    const before = backend.memory().liveBytes;
    const alone = await evaluate(model, text, { window: 100, bytes: 3001, batch: 1 });
    expect(alone.nll).toBeCloseTo(together.nll, 6);
    expect(backend.memory().liveBytes).toBe(before);

    const whole = await evaluate(model, text, { bytes: 3001 });
    const rows = scope(() => {
      const state = model.initialState();
      const result = model.forward(tensorFrom(backend, text.slice(0, -1), [1, 3000], "i32"), state);
      result.state.dispose();
      state.dispose();
      return Float32Array.from(result.logits.readNow());
    });
    let sum = 0;
    for (let at = 0; at < 3000; at++) {
      const row = rows.subarray(at * 64, (at + 1) * 64);
      sum += Math.log(row.reduce((total, logit) => total + Math.exp(logit), 0)) - row[text[at + 1]];
    }
    // Losses of single positions are float32.
    expect(whole.nll).toBeCloseTo(sum / 3000, 5);
    expect(backend.memory().liveBytes).toBe(before);
    model.dispose();
  });
});
