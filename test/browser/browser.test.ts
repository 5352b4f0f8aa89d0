// The library in a browser: every op on WASM and on WebGPU, and the same tokens as in Node from tiny-mamba over HTTP.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { OpReport } from "../../src/cli/commands/doctor/self-test.ts";
import type { BrowserWorker } from "../support/browser.ts";
import { hasBrowser, openBrowserWorker } from "../support/browser.ts";
import { fixturePath, readGolden } from "../support/fixtures.ts";

/** Of the 61 tokens in expected.safetensors, the prompt is the first 37. */
const NEW_TOKENS = 24;
const NOT_ISOLATED = { isIsolated: false };

describe.skipIf(!hasBrowser())("in headless Chromium (skipped where /usr/bin/chromium is missing)", () => {
  let worker: BrowserWorker;
  let expected: { prompt: number[]; tokens: number[] };
  beforeAll(async () => {
    worker = await openBrowserWorker({ model: fixturePath("tiny-mamba"), neox: fixturePath("tiny-gpt-neox") });
    const { tensors } = await readGolden("tiny-mamba/expected.safetensors");
    const greedy = Array.from(tensors.get("greedy")!.data);
    expected = { prompt: greedy.slice(0, -NEW_TOKENS), tokens: greedy.slice(-NEW_TOKENS) };
  });
  afterAll(() => worker?.close());

  const generate = (
    request: Record<string, unknown>,
    options: { isIsolated?: boolean } = {},
  ): Promise<Record<string, unknown>> =>
    worker.ask({ folder: "model", dtype: "f32", prompt: expected.prompt, maxTokens: NEW_TOKENS, ...request }, options);
  const failures = ({ ops }: Record<string, unknown>): OpReport[] => (ops as OpReport[]).filter((op) => !op.isGood);

  describe("wasm", () => {
    it.each([1, 2])("generates the tokens of transformers with %i thread(s)", async (threads) => {
      const answer = await generate({ device: "wasm", threads });
      const { tokens } = expected;
      expect(answer).toMatchObject({ tokens, again: tokens, device: "wasm", threads, isolated: true });
      expect(answer.note).toBeUndefined();
      expectMemoryGivenBack(answer);
    });

    it("generates them in a page that is not isolated, in one thread, and says so", async () => {
      const answer = await generate({ device: "wasm", threads: 2 }, NOT_ISOLATED);
      const { tokens } = expected;
      expect(answer).toMatchObject({ tokens, again: tokens, device: "wasm", threads: 1, isolated: false });
      expect(answer.note).toMatch(/one thread: this page is not cross-origin isolated.*Cross-Origin-Opener-Policy/);
      expectMemoryGivenBack(answer);
    });

    it("loads int8 weights, wherever it runs the same tokens", async () => {
      const [isolated, plain] = [
        await generate({ device: "wasm", dtype: "int8" }),
        await generate({ device: "wasm", dtype: "int8" }, NOT_ISOLATED),
      ];
      expect(plain.tokens).toEqual(isolated.tokens);
    });

    it.each([
      ["isolated", {}],
      ["not isolated", NOT_ISOLATED],
    ])("computes every op as the reference does, %s", async (_, options) => {
      const answer = await worker.ask({ task: "selfTest", device: "wasm", threads: 2 }, options);
      expect(failures(answer)).toEqual([]);
    });
  });

  describe("webgpu", () => {
    // SwiftShader compiles and synchronises slowly: few tokens, and time.
    it("generates the tokens of transformers", async () => {
      const answer = await generate({ device: "webgpu", maxTokens: 6 });
      const tokens = expected.tokens.slice(0, 6);
      expect(answer).toMatchObject({ tokens, again: tokens, device: "webgpu", adapter: "swiftshader" });
      expectMemoryGivenBack(answer);
    });

    it("generates them in a page that is not isolated", async () => {
      const answer = await generate({ device: "webgpu", maxTokens: 2 }, NOT_ISOLATED);
      expect(answer).toMatchObject({ tokens: expected.tokens.slice(0, 2), isolated: false });
    });

    it.each([
      ["with subgroups", []],
      ["without subgroups", ["subgroups"]],
    ])("computes every op as the reference does, %s", async (_, without) => {
      const answer = await worker.ask({ task: "selfTest", device: "webgpu", without });
      expect(failures(answer)).toEqual([]);
    });
  });

  it("chooses wasm by itself where the processor emulates the GPU", async () => {
    expect(await generate({})).toMatchObject({ device: "wasm", tokens: expected.tokens });
  });

  it.each(["wasm", "webgpu"])("generates the tokens of transformers by a GPT-NeoX on %s", async (device) => {
    const { tensors } = await readGolden("tiny-gpt-neox/expected.safetensors");
    const greedy = Array.from(tensors.get("greedy")!.data);
    const [prompt, tokens] = [greedy.slice(0, -NEW_TOKENS), greedy.slice(-NEW_TOKENS)];
    const answer = await generate({ folder: "neox", family: "any", device, threads: 1, prompt });
    expect(answer).toMatchObject({ tokens, again: tokens, device });
    expectMemoryGivenBack(answer);
  });

  describe("without an adapter", () => {
    let plain: BrowserWorker;
    beforeAll(async () => {
      plain = await openBrowserWorker({ model: fixturePath("tiny-mamba") }, { hasGpu: false });
    });
    afterAll(() => plain?.close());

    it("says so, and auto takes wasm", async () => {
      const request = { folder: "model", dtype: "f32", ...expected, maxTokens: NEW_TOKENS };
      await expect(plain.ask({ ...request, device: "webgpu" })).rejects.toThrow(/webgpu: there is no GPU adapter here/);
      expect(await plain.ask(request)).toMatchObject({ device: "wasm", tokens: expected.tokens });
    });
  });
});

/** What generating took is given back after each text, and everything when the model is disposed of. */
function expectMemoryGivenBack({ liveBytes }: Record<string, unknown>): void {
  const { first, second, disposed } = liveBytes as { first: number; second: number; disposed: number };
  expect(second).toBe(first);
  expect(disposed).toBe(0);
}
