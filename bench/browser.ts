// Prefill and decode in headless Chromium: the library in a worker of a cross-origin isolated page, weights over HTTP.
// npx tsx bench/browser.ts --model FOLDER [--dtype int8] [--threads 2] [--prompt-tokens 128,512] [--new-tokens 64] [--reps 3]
//   [--out bench/results/browser.json] [--json: the result on stdout, nothing written]
// CHROMIUM names the browser (default /usr/bin/chromium). Page and worker: test/support/browser.ts, test/browser/worker.ts.
import type { Environment, Summary } from "./support.ts";
import {
  describeEnvironment,
  describeMachineLine,
  describeSummary,
  dtypeFlag,
  isScript,
  largestDescendantPeakBytes,
  markdownTable,
  mebibytes,
  readFlags,
  required,
  runScript,
  summarize,
  watchForeignLoad,
  wholeFlag,
  wholeFlags,
  writeJson,
} from "./support.ts";
import { openBrowserWorker } from "../test/support/browser.ts";

export interface BrowserOptions {
  readonly model: string;
  readonly dtype: "f32" | "int8";
  readonly threads: number;
  readonly promptTokens: readonly number[];
  readonly newTokens: number;
  readonly reps: number;
}

export interface BrowserResult extends Omit<BrowserOptions, "model">, Environment {
  readonly chromium: string;
  readonly build: string;
  readonly isolated: boolean;
  readonly loadMs: number;
  /** Tokens a second. */
  readonly prefill: readonly { readonly tokens: number; readonly tokensPerSecond: Summary }[];
  readonly decode: { readonly tokens: number; readonly tokensPerSecond: Summary };
  /** Of the largest of Chromium's processes, the one that runs the worker. */
  readonly peakBytes: number | null;
  readonly foreignLoad: number | null;
}

/** What test/browser/worker.ts answers. */
interface Answer {
  readonly loadMs: number;
  readonly threads: number;
  readonly build: string;
  readonly isolated: boolean;
  readonly bench: {
    readonly prefill: readonly { promptTokens: number; tokensPerSecond: number[] }[];
    readonly decode: readonly number[];
  };
}

export async function measureBrowser({ model, ...options }: BrowserOptions): Promise<BrowserResult> {
  const { dtype, threads, promptTokens, newTokens, reps } = options;
  const worker = await openBrowserWorker({ model });
  try {
    const foreignLoad = watchForeignLoad();
    const answer = (await worker.ask({
      folder: "model",
      dtype,
      threads,
      prompt: [1, 2, 3],
      maxTokens: 2,
      bench: { promptTokens, newTokens, repetitions: reps },
    })) as unknown as Answer;
    const { bench, isolated, build, loadMs } = answer;
    return {
      ...describeEnvironment(),
      chromium: worker.version,
      ...options,
      threads: answer.threads,
      build,
      isolated,
      loadMs,
      prefill: bench.prefill.map((each) => ({
        tokens: each.promptTokens,
        tokensPerSecond: summarize(each.tokensPerSecond),
      })),
      decode: { tokens: newTokens, tokensPerSecond: summarize(bench.decode) },
      peakBytes: largestDescendantPeakBytes(),
      foreignLoad: foreignLoad(),
    };
  } finally {
    await worker.close();
  }
}

if (isScript(import.meta.url))
  await runScript(async () => {
    const flags = readFlags({
      model: { type: "string" },
      dtype: { type: "string", default: "int8" },
      threads: { type: "string", default: "2" },
      "prompt-tokens": { type: "string", default: "128,512" },
      "new-tokens": { type: "string", default: "64" },
      reps: { type: "string", default: "3" },
      out: { type: "string", default: "bench/results/browser.json" },
      json: { type: "boolean", default: false },
    });
    const result = await measureBrowser({
      model: required(flags.model, "--model"),
      dtype: dtypeFlag(flags.dtype),
      threads: wholeFlag(flags.threads, "--threads"),
      promptTokens: wholeFlags(flags["prompt-tokens"], "--prompt-tokens"),
      newTokens: wholeFlag(flags["new-tokens"], "--new-tokens"),
      reps: wholeFlag(flags.reps, "--reps"),
    });
    if (flags.json) return console.log(JSON.stringify(result));
    writeJson(flags.out, { what: "prefill and decode in headless Chromium, tokens a second", ...result });
    console.log(
      markdownTable(
        ["tokens a second", "median (least to most)"],
        [
          ...result.prefill.map((each) => [`prefill ${each.tokens}`, describeSummary(each.tokensPerSecond)]),
          [`decode ${result.decode.tokens}`, describeSummary(result.decode.tokensPerSecond)],
          ["loading, ms", result.loadMs.toFixed(0)],
          ["peak MiB of the renderer", result.peakBytes === null ? null : mebibytes(result.peakBytes)],
          ["share of the machine that others took", result.foreignLoad],
        ],
      ),
    );
    console.log(`\nChromium ${result.chromium}, ${result.threads} threads; ${describeMachineLine(result)}`);
  });
