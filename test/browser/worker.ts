// The library in a browser's worker: loads a checkpoint over HTTP and generates, tests every op, measures. Driven by messages.
import type { Backend } from "../../src/backends/backend.ts";
import type { Device } from "../../src/backends/index.ts";
import { openDevice } from "../../src/backends/index.ts";
import type { GpuFeature } from "../../src/backends/webgpu/index.ts";
import { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { OP_SAMPLES } from "../../src/cli/commands/doctor/op-samples.ts";
import type { TestedDevice } from "../../src/cli/commands/doctor/self-test.ts";
import { selfTest } from "../../src/cli/commands/doctor/self-test.ts";
import { DecodeSession } from "../../src/generate/session.ts";
import { httpSource } from "../../src/io/index.ts";
import { Mamba } from "../../src/mamba.ts";
import type { TextModel } from "../../src/text-model.ts";
import { loadTextModel } from "../../src/text-model.ts";

interface GenerateRequest {
  task?: "generate";
  url: string;
  device?: Device;
  dtype: "f32" | "int8";
  /** Whether the checkpoint may be of another family than Mamba. */
  family?: "any";
  threads?: number;
  prompt: number[];
  maxTokens: number;
  /** Prompt lengths to time, and how often. */
  bench?: { promptTokens: number[]; newTokens: number; repetitions: number };
}

interface SelfTestRequest {
  task: "selfTest";
  device: "wasm" | "webgpu";
  threads?: number;
  /** Features of a GPU to do without. */
  without?: GpuFeature[];
}

type Request = GenerateRequest | SelfTestRequest;

addEventListener("message", (event: MessageEvent<Request>) => {
  answer(event.data).then(
    (result) => postMessage({ result }),
    (error: unknown) => postMessage({ error: String(error) }),
  );
});

function answer(request: Request): Promise<unknown> {
  return request.task === "selfTest" ? testOps(request) : generate(request);
}

async function testOps({ device, threads, without = [] }: SelfTestRequest): Promise<unknown> {
  const open = async (): Promise<TestedDevice> =>
    device === "webgpu"
      ? { backend: await WebGpuBackend.create({ without }), reopen: open }
      : { backend: await openDevice(device, threads ? { threads } : {}) };
  const tested = await open();
  const about = describe(tested.backend);
  return { ...about, ops: await selfTest(OP_SAMPLES, tested) };
}

async function generate({
  url,
  device = "auto",
  dtype,
  family,
  threads,
  prompt,
  maxTokens,
  bench,
}: GenerateRequest): Promise<unknown> {
  const started = performance.now();
  const how = { device, dtype, ...(threads ? { threads } : {}) };
  const mamba = family === "any" ? await loadTextModel(httpSource(url), how) : await Mamba.load(httpSource(url), how);
  const loadMs = performance.now() - started;
  const complete = async (): Promise<number[]> => {
    const { tokens } = await mamba.complete(prompt, { maxTokens, temperature: 0, stopAtEndOfText: false });
    return tokens;
  };
  const { backend } = mamba;
  const tokens = await complete();
  // What a model keeps after its first text (A, computed from A_log) is there by now.
  const firstBytes = backend.memory().liveBytes;
  const again = await complete();
  const secondBytes = backend.memory().liveBytes;
  const measured = bench && (await measure(mamba, bench));
  mamba.dispose();
  return {
    tokens,
    again,
    loadMs,
    ...describe(backend),
    liveBytes: { first: firstBytes, second: secondBytes, disposed: backend.memory().liveBytes },
    bench: measured,
  };
}

function describe(backend: Backend): Record<string, unknown> {
  const { name: device, threads, note } = backend;
  const build = "build" in backend ? backend.build : undefined;
  const adapter = backend instanceof WebGpuBackend ? backend.about.architecture : undefined;
  return { device, threads, note, build, adapter, isolated: crossOriginIsolated };
}

async function measure(
  mamba: TextModel,
  { promptTokens, newTokens, repetitions }: NonNullable<GenerateRequest["bench"]>,
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
