// The same tokens in a browser as in Node: tiny-mamba over HTTP, in a worker, with threads.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BrowserWorker } from "../support/browser.ts";
import { hasBrowser, openBrowserWorker } from "../support/browser.ts";
import { fixturePath, readGolden } from "../support/fixtures.ts";

/** Of the 61 tokens in expected.safetensors, the prompt is the first 37. */
const NEW_TOKENS = 24;

describe.skipIf(!hasBrowser())("in headless Chromium (skipped where /usr/bin/chromium is missing)", () => {
  let worker: BrowserWorker;
  beforeAll(async () => {
    worker = await openBrowserWorker({ model: fixturePath("tiny-mamba") });
  });
  afterAll(() => worker?.close());

  it.each([1, 2])("generates the tokens of transformers with %i thread(s)", async (threads) => {
    const { tensors } = await readGolden("tiny-mamba/expected.safetensors");
    const greedy = Array.from(tensors.get("greedy")!.data);
    const prompt = greedy.slice(0, -NEW_TOKENS);
    const answer = await worker.ask({ folder: "model", dtype: "f32", threads, prompt, maxTokens: NEW_TOKENS });
    expect(answer).toMatchObject({ tokens: greedy.slice(-NEW_TOKENS), threads, isolated: true });
  });
});
