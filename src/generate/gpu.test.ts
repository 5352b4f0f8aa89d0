// Generation on a GPU: the same greedy tokens as on the CPU, whatever ran ahead; stops, states, limits and memory.
import { beforeAll, describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, wasmBackend } from "../../test/support/backends.ts";
import { tinyModel } from "../../test/support/tiny-model.ts";
import type { WebGpuBackend } from "../backends/webgpu/index.ts";
import type { MambaModel } from "../models/mamba/model.ts";
import type { MambaState } from "../models/mamba/state.ts";
import { createByteTokenizer } from "../tokenizers/bytes.ts";
import type { GenerateOptions, GenerationResult } from "./generate.ts";
import { complete, generate } from "./generate.ts";

const tokenizer = createByteTokenizer();
const PROMPTS = ["a", "The sea was calm", "42, 43"];

describe.skipIf(!hasGpu)("generate on a GPU", () => {
  let backend: WebGpuBackend;
  let model: MambaModel;
  let onCpu: MambaModel;
  let expected: GenerationResult[];

  beforeAll(async () => {
    backend = await gpuBackend();
    model = tinyModel(backend, { nLayer: 1 });
    onCpu = tinyModel(await wasmBackend(), { nLayer: 1 });
    expected = await complete(onCpu, tokenizer, PROMPTS, { temperature: 0, maxTokens: 40 });
  });

  async function one(prompt: string, options: GenerateOptions<MambaState>): Promise<GenerationResult> {
    return (await complete(model, tokenizer, [prompt], options))[0];
  }

  it("gives the greedy tokens of the CPU, for one prompt and for a ragged batch", async () => {
    const alone = await one(PROMPTS[1], { temperature: 0, maxTokens: 40 });
    expect(alone.tokens).toEqual(expected[1].tokens);
    expect(alone.stopReason).toBe("length");
    const batch = await complete(model, tokenizer, PROMPTS, { temperature: 0, maxTokens: 40 });
    expect(batch.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
  });

  it("drops rows that stop, and goes on with the others", async () => {
    const stopTokens = [expected[0].tokens[5]];
    const options = { temperature: 0, maxTokens: 40, stopTokens };
    const batch = await complete(model, tokenizer, PROMPTS, options);
    const cpu = await complete(onCpu, tokenizer, PROMPTS, options);
    expect(batch.map(({ tokens }) => tokens)).toEqual(cpu.map(({ tokens }) => tokens));
    expect(batch.map(({ stopReason }) => stopReason)).toEqual(cpu.map(({ stopReason }) => stopReason));
  });

  it("hands over the state after the last token of the result, though the GPU went further", async () => {
    for (const maxTokens of [1, 17, 40]) {
      const stopTokens = maxTokens === 40 ? [expected[1].tokens[29]] : [];
      const states: number[][] = [];
      for (const each of [model, onCpu]) {
        const onState = async (state: MambaState): Promise<void> => {
          const arrays = await state.toArrays();
          states.push(arrays.flatMap(({ data }) => Array.from(data)));
        };
        await complete(each, tokenizer, [PROMPTS[1]], { temperature: 0, maxTokens, stopTokens, onState });
      }
      const [actual, wanted] = states;
      for (const [i, value] of wanted.entries()) expect(actual[i]).toBeCloseTo(value, 4);
    }
  });

  it("draws the same tokens again from the same seed, others from another, each row by its own", async () => {
    const options = { temperature: 1, topK: 50, topP: 0.95, minP: 0.01, repetitionPenalty: 1.1, maxTokens: 20 };
    const batch = await complete(model, tokenizer, PROMPTS, { ...options, seed: 3 });
    const alone = await one(PROMPTS[1], { ...options, seed: 4 });
    expect(alone.tokens).toEqual(batch[1].tokens);
    const other = await one(PROMPTS[1], { ...options, seed: 5 });
    expect(other.tokens).not.toEqual(alone.tokens);
  });

  it("stops at a text, at a signal, and when the caller leaves; memory is given back", async () => {
    const { liveBytes } = backend.memory();
    const stop = tokenizer.createDetokenizer().push(expected[1].tokens[9]);
    if (stop) {
      const stopped = await one(PROMPTS[1], { temperature: 0, maxTokens: 40, stop: [stop] });
      expect(stopped.text).toBe(expected[1].text.slice(0, expected[1].text.indexOf(stop)));
    }
    const controller = new AbortController();
    let count = 0;
    const onToken = (): void => void (++count === 12 && controller.abort());
    const aborted = await one("x", { temperature: 0, maxTokens: Infinity, signal: controller.signal, onToken });
    expect(aborted).toMatchObject({ stopReason: "aborted" });
    expect(aborted.tokens).toHaveLength(12);
    for await (const { token } of generate(model, tokenizer, ["leave"], { temperature: 0 })) if (token >= 0) break;
    expect(backend.memory().liveBytes).toBe(liveBytes);
  });

  it("refuses logits that are no numbers, as the CPU does", async () => {
    const broken = tinyModel(backend, { nLayer: 1 });
    broken.backbone.normF.weight.tensor.write(new Float32Array(24).fill(NaN));
    await expect(complete(broken, tokenizer, ["x"], {})).rejects.toThrow(/logits must be numbers, got NaN for token 0/);
    broken.dispose();
  });
});
