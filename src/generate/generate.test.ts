// Generation: batches equal single prompts, stops, limits, states, cancelling, and memory that does not grow.
import { beforeAll, describe, expect, it } from "vitest";
import { wasmBackend } from "../../test/support/backends.ts";
import { tinyModel } from "../../test/support/tiny-model.ts";
import type { WasmBackend } from "../backends/wasm/index.ts";
import type { MambaModel } from "../models/mamba/model.ts";
import type { MambaState } from "../models/mamba/state.ts";
import { createByteTokenizer } from "../tokenizers/bytes.ts";
import type { GenerateOptions, GenerationResult } from "./generate.ts";
import { complete, generate } from "./generate.ts";

const tokenizer = createByteTokenizer();
let backend: WasmBackend;
let model: MambaModel;

beforeAll(async () => {
  backend = await wasmBackend();
  model = tinyModel(backend);
});

async function one(
  prompt: string | ArrayLike<number>,
  options: GenerateOptions<MambaState> = {},
): Promise<GenerationResult> {
  return (await complete(model, tokenizer, [prompt], options))[0];
}

describe("generate", () => {
  it("gives every prompt of a ragged batch what it gives it alone", async () => {
    const prompts = ["a", "The sea was calm that day, and nobody spoke.", "xyz ".repeat(150), "42"];
    for (const options of [
      { temperature: 0 },
      { temperature: 0.9, topK: 40, topP: 0.95, minP: 0.02, repetitionPenalty: 1.1, seed: 7 },
    ]) {
      const batch = await complete(model, tokenizer, prompts, { ...options, maxTokens: 24 });
      for (const [i, prompt] of prompts.entries()) {
        const alone = await one(prompt, { ...options, seed: (options.seed ?? 0) + i, maxTokens: 24 });
        expect(batch[i].tokens).toEqual(alone.tokens);
      }
    }
  });

  it("goes on with the others when a row of the batch stops", async () => {
    const prompts = ["one", "two", "three"];
    const alone = await Promise.all(prompts.map((prompt, i) => one(prompt, { seed: i, maxTokens: 30 })));
    const stopTokens = [alone[0].tokens[3]];
    const batch = await complete(model, tokenizer, prompts, { maxTokens: 30, stopTokens });
    for (const [i, { tokens }] of alone.entries()) {
      const end = tokens.indexOf(stopTokens[0]);
      expect(batch[i].tokens).toEqual(end < 0 ? tokens : tokens.slice(0, end));
      expect(batch[i].stopReason).toBe(end < 0 ? "length" : "stop");
    }
  });

  it("streams exactly the text of the result", async () => {
    const called: string[] = [];
    const stream = generate(model, tokenizer, ["stream"], {
      maxTokens: 60,
      onToken: ({ text }) => void called.push(text),
    });
    let text = "";
    for (;;) {
      const next = await stream.next();
      if (next.done) {
        expect(text).toBe(next.value[0].text);
        expect(called.join("")).toBe(text);
        expect(next.value[0].tokens).toHaveLength(60);
        return;
      }
      text += next.value.text;
    }
  });

  it("stops at a text, without it, even when it comes in pieces", async () => {
    const { text } = await one("stop", { maxTokens: 60, seed: 3 });
    const stop = text.slice(10, 14);
    const stopped = await one("stop", { maxTokens: 60, seed: 3, stop: [stop] });
    expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(stop)), stopReason: "stop" });
  });

  it("continues from a state as if there had been one prompt", async () => {
    let state: MambaState | undefined;
    const first = await one("Once upon", {
      maxTokens: 5,
      temperature: 0,
      onState: (after) => void (state = after.fork()),
    });
    const prompt = [...tokenizer.encode("Once upon"), ...first.tokens, ...tokenizer.encode(" a time")];
    const whole = await one(prompt, { maxTokens: 10, temperature: 0 });
    const continued = await one(" a time", { maxTokens: 10, temperature: 0, state: state! });
    expect(continued.tokens).toEqual(whole.tokens);
    const again = await one(" a time", { maxTokens: 10, temperature: 0, state: state! });
    expect(again.tokens).toEqual(whole.tokens);
  });

  it("ends with what there is when it is cancelled", async () => {
    const controller = new AbortController();
    const stream = generate(model, tokenizer, ["cancel"], { maxTokens: Infinity, signal: controller.signal });
    for (let count = 0; ; count++) {
      if (count === 12) controller.abort();
      const next = await stream.next();
      if (!next.done) continue;
      expect(next.value[0]).toMatchObject({ stopReason: "aborted" });
      expect(next.value[0].tokens.length).toBeGreaterThanOrEqual(12);
      return;
    }
  });

  it("lets timers through, so that a time limit can end it", async () => {
    const result = await one("time", { maxTokens: Infinity, signal: AbortSignal.timeout(100) });
    expect(result.stopReason).toBe("aborted");
  });

  it("holds the same memory after 10,000 tokens as after 100", async () => {
    const peak = async (maxTokens: number): Promise<number> => {
      await one("long", { maxTokens });
      return backend.memory().peakBytes;
    };
    const { liveBytes } = backend.memory();
    const short = await peak(100);
    expect(await peak(10_000)).toBe(short);
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });

  it("gives memory back when the caller leaves the loop", async () => {
    const { liveBytes } = backend.memory();
    for await (const token of generate(model, tokenizer, ["leave"], {})) if (token.token >= 0) break;
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });

  it("refuses an empty prompt, bad ids and bad limits in one line", async () => {
    await expect(one("")).rejects.toThrow("generate: prompt 0 is empty. Give at least one character.");
    await expect(one([1, 300])).rejects.toThrow(/token ids must lie within 0\.\.255, got 300 at position 1/);
    await expect(one("x", { maxTokens: -1 })).rejects.toThrow(/maxTokens/);
    await expect(complete(model, tokenizer, [], {})).rejects.toThrow(/no prompt/);
  });

  it("maxTokens 0 gives nothing", async () => {
    expect(await one("x", { maxTokens: 0 })).toMatchObject({ text: "", tokens: [], stopReason: "length" });
  });
});
