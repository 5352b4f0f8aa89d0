// Time of Mamba.load from a warm disk, and peak memory after loading and after a prompt and some tokens.
// npm run build && npx tsx bench/load.ts --model FOLDER [--dtypes f32,int8] [--rounds 5] [--threads 2] [--prompt-tokens 512]
//   [--new-tokens 32] [--out bench/results/load.json]
// Each measurement is a fresh process (bench/load-child.js on dist/); dtypes take turns. The first process, which warms the
// disk's cache, is not counted. Bars: 1.5 s for float32 of the 130m shape; memory 1.3 x weights at rest + 60 MB.
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import {
  describeEnvironment,
  describeMachineLine,
  describeSummary,
  dtypeFlag,
  markdownTable,
  mebibytes,
  readFlags,
  required,
  runScript,
  summarize,
  watchForeignLoad,
  wholeFlag,
  writeJson,
} from "./support.ts";

const CHILD = fileURLToPath(new URL("load-child.js", import.meta.url));

/** What load-child.js prints. Bytes are peaks of the process: at its start, after loading, after generating. */
interface Child {
  readonly loadMs: number;
  readonly startBytes: number;
  readonly loadedBytes: number;
  readonly generatedBytes: number;
  /** Tensors that live after loading. */
  readonly weightBytes: number;
  readonly parameters: number;
}

async function runChild(request: Record<string, unknown>): Promise<Child & { foreignLoad: number | null }> {
  const foreignLoad = watchForeignLoad();
  const { stdout } = await promisify(execFile)(process.execPath, [CHILD, JSON.stringify(request)]);
  return { ...(JSON.parse(stdout) as Child), foreignLoad: foreignLoad() };
}

await runScript(async () => {
  const flags = readFlags({
    model: { type: "string" },
    dtypes: { type: "string", default: "f32,int8" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    "prompt-tokens": { type: "string", default: "512" },
    "new-tokens": { type: "string", default: "32" },
    out: { type: "string", default: "bench/results/load.json" },
  });
  const request = {
    model: resolve(required(flags.model, "--model")),
    threads: wholeFlag(flags.threads, "--threads"),
    promptTokens: wholeFlag(flags["prompt-tokens"], "--prompt-tokens"),
    newTokens: wholeFlag(flags["new-tokens"], "--new-tokens"),
  };
  const rounds = wholeFlag(flags.rounds, "--rounds");
  const measured = flags.dtypes
    .split(",")
    .map((dtype) => ({ dtype: dtypeFlag(dtype), runs: [] as Awaited<ReturnType<typeof runChild>>[] }));
  await runChild({ ...request, dtype: measured[0].dtype });
  for (let round = 1; round <= rounds; round++)
    for (const { dtype, runs } of measured) {
      runs.push(await runChild({ ...request, dtype }));
      console.error(`round ${round} of ${rounds}: ${dtype} loaded in ${runs.at(-1)!.loadMs.toFixed(0)} ms`);
    }
  const results = measured.map(({ dtype, runs }) => {
    const [{ parameters, weightBytes }] = runs;
    const peakBytes = summarize(runs.map((run) => run.generatedBytes));
    const barBytes = Math.round(1.3 * weightBytes + 60e6);
    return {
      dtype,
      parameters,
      weightBytes,
      loadMs: summarize(runs.map((run) => run.loadMs)),
      startBytes: summarize(runs.map((run) => run.startBytes)),
      loadedBytes: summarize(runs.map((run) => run.loadedBytes)),
      generatedBytes: peakBytes,
      barBytes,
      isWithinBar: peakBytes.most <= barBytes,
      foreignLoad: Math.max(...runs.map((run) => run.foreignLoad ?? 0)),
    };
  });
  const environment = describeEnvironment();
  const { threads, promptTokens, newTokens } = request;
  writeJson(flags.out, {
    what: "Mamba.load from a warm disk, and peak memory of the process (VmHWM)",
    ...environment,
    threads,
    promptTokens,
    newTokens,
    results,
  });
  console.log(
    markdownTable(
      [
        "",
        "load ms (least to most)",
        "weights MiB",
        "peak MiB at start",
        "after load",
        `after ${promptTokens} + ${newTokens} tokens`,
        "bar",
        "within",
        "others' share",
      ],
      results.map((result) => [
        result.dtype,
        describeSummary(result.loadMs),
        mebibytes(result.weightBytes),
        mebibytes(result.startBytes.median),
        mebibytes(result.loadedBytes.median),
        mebibytes(result.generatedBytes.median),
        mebibytes(result.barBytes),
        result.isWithinBar ? "yes" : "no",
        result.foreignLoad,
      ]),
    ),
  );
  console.log(
    `\nThe bar is 1.3 x weights at rest + 60 MB. ${rounds} rounds, ${threads} threads; ${describeMachineLine(environment)}`,
  );
});
