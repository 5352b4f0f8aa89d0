// The library in a browser's worker: loads a checkpoint over HTTP, generates, and measures. Driven by page messages.
import { DecodeSession } from "../../src/generate/session.ts";
import { httpSource } from "../../src/io/index.ts";
import { Mamba } from "../../src/mamba.ts";

interface Request {
  url: string;
  dtype: "f32" | "int8";
  threads?: number;
  prompt: number[];
  maxTokens: number;
  /** Prompt lengths to time, and how often. */
  bench?: { promptTokens: number[]; newTokens: number; repetitions: number };
}

addEventListener("message", (event: MessageEvent<Request>) => {
  answer(event.data).then(
    (result) => postMessage({ result }),
    (error: unknown) => postMessage({ error: String(error) }),
  );
});

async function answer({ url, dtype, threads, prompt, maxTokens, bench }: Request): Promise<unknown> {
  const started = performance.now();
  const mamba = await Mamba.load(httpSource(url), { dtype, ...(threads ? { threads } : {}) });
  const loadMs = performance.now() - started;
  const { tokens } = await mamba.complete(prompt, { maxTokens, temperature: 0, stopAtEndOfText: false });
  const backend = mamba.backend as { build?: string; threads: number };
  return {
    tokens,
    loadMs,
    threads: backend.threads,
    build: backend.build,
    isolated: crossOriginIsolated,
    bench: bench && (await measure(mamba, bench)),
  };
}

async function measure(
  mamba: Mamba,
  { promptTokens, newTokens, repetitions }: NonNullable<Request["bench"]>,
): Promise<unknown> {
  const ids = (count: number): Int32Array =>
    Int32Array.from({ length: count }, (_, i) => (i * 7919) % mamba.config.vocabSize);
  const prefill: { promptTokens: number; tokensPerSecond: number[] }[] = [];
  const decode: number[] = [];
  for (const count of promptTokens) {
    const tokensPerSecond: number[] = [];
    for (let i = 0; i <= repetitions; i++) {
      const session = new DecodeSession(mamba.model, mamba.initialState());
      const started = performance.now();
      await session.prefill(ids(count));
      if (i > 0) tokensPerSecond.push((count / (performance.now() - started)) * 1000);
      session.dispose();
    }
    prefill.push({ promptTokens: count, tokensPerSecond });
  }
  const session = new DecodeSession(mamba.model, mamba.initialState());
  await session.prefill(ids(8));
  await session.step(ids(1));
  for (let i = 0; i < repetitions; i++) {
    const started = performance.now();
    for (let token = 0; token < newTokens; token++) await session.step(ids(1));
    decode.push((newTokens / (performance.now() - started)) * 1000);
  }
  session.dispose();
  return { prefill, decode };
}
