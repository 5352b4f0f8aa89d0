// This library beside node-llama-cpp and wllama on one shape, in turns within one run, each in a process of its own.
// npm run build && npx tsx bench/peers.ts --peers DIR --model FOLDER --q8 FILE.gguf --f32 FILE.gguf [--rounds 3] [--threads 2]
//   [--prompt-tokens 128,512] [--new-tokens 128] [--browser-tokens 64] [--reps 3] [--skip-browser] [--out bench/results/peers.json]
// DIR holds nlc.mjs and wllama.mjs with pkg/ installed. Rounds run forwards, then backwards, so that a drift of the machine
// meets all alike. The ratios are made within each round, then their median is taken. Results are written after each round.
import { execFile } from "node:child_process";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import type { BrowserResult } from "./browser.ts";
import type { Summary } from "./support.ts";
import {
  describeEnvironment,
  describeMachineLine,
  describeSummary,
  markdownTable,
  mebibytes,
  readFlags,
  required,
  ROOT,
  round as roundNumber,
  runScript,
  summarize,
  watchForeignLoad,
  wholeFlag,
  wholeFlags,
  writeJson,
} from "./support.ts";

/** One engine's numbers of one round, each the median of its own repetitions. Tokens a second. */
interface Run {
  readonly prefill: Readonly<Record<number, number>>;
  readonly decode: number;
  readonly peakBytes: number | null;
  readonly loadMs: number | null;
  readonly version: string;
  readonly threads: number | null;
  /** Share of the machine that other processes took while it was measured, by the peer's own account where it gives one. */
  readonly foreignLoad: number | null;
}

interface Engine {
  readonly name: string;
  readonly command: readonly string[];
  /** From the JSON on its stdout. */
  readonly read: (json: unknown) => Run;
  readonly runs: Run[];
}

interface OursJson {
  version: string;
  build: string;
  threads: number;
  loadMs: number;
  prefill: { tokens: number; tokensPerSecond: { median: number } }[];
  decode: { tokensPerSecond: { median: number } };
  memory: { peakBytes: number };
}

interface NodeLlamaJson {
  version: string;
  release?: string;
  backend: string;
  threads: number;
  loadModelMs: number;
  prefill: { n: number; tokPerS: number; foreign: number }[];
  decode: { tokPerS: number; foreign: number }[];
  peakRSSMB: number;
}

interface WllamaJson {
  error?: string;
  version: string;
  chromium: string;
  threads: number;
  loadMs: number;
  prefill: { n: number; tokPerS: number }[];
  decode: { tokPerS: number }[];
  foreign: number;
  endPssMB: number;
}

const readOurs = (json: unknown): Run => {
  const { version, build, threads, loadMs, prefill, decode, memory } = json as OursJson;
  return {
    prefill: Object.fromEntries(prefill.map((each) => [each.tokens, each.tokensPerSecond.median])),
    decode: decode.tokensPerSecond.median,
    peakBytes: memory.peakBytes,
    loadMs,
    version: `${version} (${build})`,
    threads,
    foreignLoad: null,
  };
};

const readBrowser = (json: unknown): Run => {
  const result = json as BrowserResult;
  return {
    prefill: Object.fromEntries(result.prefill.map((each) => [each.tokens, each.tokensPerSecond.median])),
    decode: result.decode.tokensPerSecond.median,
    peakBytes: result.peakBytes,
    loadMs: result.loadMs,
    version: `${result.version} (${result.build}), Chromium ${result.chromium}`,
    threads: result.threads,
    foreignLoad: result.foreignLoad,
  };
};

const readNodeLlama = (json: unknown): Run => {
  const { version, backend, threads, loadModelMs, prefill, decode, peakRSSMB } = json as NodeLlamaJson;
  return {
    prefill: Object.fromEntries(prefill.map(({ n, tokPerS }) => [n, tokPerS])),
    decode: decode[0].tokPerS,
    peakBytes: peakRSSMB * 2 ** 20,
    loadMs: loadModelMs,
    version: `${version} (${backend})`,
    threads,
    foreignLoad: Math.max(...[...prefill, ...decode].map(({ foreign }) => foreign)),
  };
};

const readWllama = (json: unknown): Run => {
  const { error, version, chromium, threads, loadMs, prefill, decode, foreign, endPssMB } = json as WllamaJson;
  if (error !== undefined) throw new Error(`wllama: ${error}`);
  return {
    prefill: Object.fromEntries(prefill.map(({ n, tokPerS }) => [n, tokPerS])),
    decode: decode[0].tokPerS,
    peakBytes: endPssMB * 2 ** 20,
    loadMs,
    version: `${version}, ${chromium}`,
    threads,
    foreignLoad: foreign,
  };
};

async function runOnce({ name, command, read, runs }: Engine, round: number): Promise<void> {
  const foreignLoad = watchForeignLoad();
  const { stdout } = await promisify(execFile)(process.execPath, [...command], { cwd: ROOT, maxBuffer: 2 ** 26 });
  const run = read(JSON.parse(stdout.slice(stdout.search(/^\{/m))));
  runs.push({ ...run, foreignLoad: run.foreignLoad ?? foreignLoad() });
  const prefill = Object.entries(run.prefill).map(([tokens, rate]) => `prefill ${tokens} ${roundNumber(rate)}`);
  console.error(`round ${round}: ${name}: ${prefill.join(", ")}, decode ${roundNumber(run.decode)} tokens/s`);
}

interface Ratio {
  readonly what: string;
  /** "Numbers to reach" of issue 2. */
  readonly bar: number;
  readonly ratio: Summary;
}

/** The bars. `longest` is the prompt whose prefill is compared. */
function makeRatios(engines: readonly Engine[], longest: number): Ratio[] {
  const runsOf = (name: string): readonly Run[] => engines.find((engine) => engine.name === name)?.runs ?? [];
  const int8 = runsOf("ours int8");
  const f32 = runsOf("ours f32");
  const q8 = runsOf("node-llama-cpp Q8_0");
  const peerF32 = runsOf("node-llama-cpp F32");
  const browser = runsOf("ours int8, Chromium");
  const wllama = runsOf("wllama Q8_0, Chromium");
  const compare = (what: string, bar: number, ours: readonly number[], theirs: readonly number[]): Ratio[] => {
    const rounds = Math.min(ours.length, theirs.length);
    if (rounds === 0) return [];
    return [{ what, bar, ratio: summarize(Array.from({ length: rounds }, (_, i) => ours[i] / theirs[i])) }];
  };
  const decode = (runs: readonly Run[]): number[] => runs.map((run) => run.decode);
  const prefill = (runs: readonly Run[]): number[] => runs.map((run) => run.prefill[longest]);
  const faster = prefill(int8).map((rate, i) => Math.max(rate, prefill(f32)[i] ?? 0));
  return [
    ...compare("decode, int8 / node-llama-cpp Q8_0", 2, decode(int8), decode(q8)),
    ...compare("decode, f32 / node-llama-cpp F32", 1.3, decode(f32), decode(peerF32)),
    ...compare(`prefill ${longest}, faster of int8 and f32 / node-llama-cpp Q8_0`, 1, faster, prefill(q8)),
    ...compare(`prefill ${longest}, faster of int8 and f32 / wllama Q8_0`, 8, faster, prefill(wllama)),
    ...compare("decode in Chromium, int8 / wllama Q8_0", 4, decode(browser), decode(wllama)),
    ...compare(`prefill ${longest} in Chromium, int8 / wllama Q8_0`, 4, prefill(browser), prefill(wllama)),
  ];
}

interface EngineSummary {
  readonly name: string;
  readonly version: string;
  readonly threads: number | null;
  readonly prefill: readonly { readonly tokens: number; readonly tokensPerSecond: Summary }[];
  readonly decode: Summary;
  readonly loadMs: Summary | null;
  readonly peakBytes: Summary | null;
  /** The worst round. */
  readonly foreignLoad: number | null;
  readonly rounds: readonly Run[];
}

function summarizeEngine({ name, runs }: Engine, promptTokens: readonly number[]): EngineSummary {
  const present = (pick: (run: Run) => number | null): number[] => runs.map(pick).filter((each) => each !== null);
  const orNull = (values: readonly number[]): Summary | null => (values.length > 0 ? summarize(values) : null);
  const loads = present((run) => run.foreignLoad);
  return {
    name,
    version: runs[0].version,
    threads: runs[0].threads,
    prefill: promptTokens.map((tokens) => ({
      tokens,
      tokensPerSecond: summarize(runs.map((run) => run.prefill[tokens])),
    })),
    decode: summarize(runs.map((run) => run.decode)),
    loadMs: orNull(present((run) => run.loadMs)),
    peakBytes: orNull(present((run) => run.peakBytes)),
    foreignLoad: loads.length > 0 ? Math.max(...loads) : null,
    rounds: runs,
  };
}

function printTables(
  engines: readonly EngineSummary[],
  ratios: readonly Ratio[],
  promptTokens: readonly number[],
): void {
  console.log(
    markdownTable(
      [
        "tokens a second",
        ...promptTokens.map((tokens) => `prefill ${tokens}`),
        "decode",
        "load ms",
        "peak MiB",
        "others' share",
      ],
      engines.map(({ name, prefill, decode, loadMs, peakBytes, foreignLoad }) => [
        name,
        ...prefill.map(({ tokensPerSecond }) => describeSummary(tokensPerSecond)),
        describeSummary(decode),
        loadMs && loadMs.median.toFixed(0),
        peakBytes && mebibytes(peakBytes.median),
        foreignLoad,
      ]),
    ),
  );
  console.log();
  console.log(
    markdownTable(
      ["ratio", "median (least to most)", "bar", "reached"],
      ratios.map(({ what, bar, ratio }) => [what, describeSummary(ratio), bar, ratio.median >= bar ? "yes" : "no"]),
    ),
  );
}

await runScript(async () => {
  const flags = readFlags({
    peers: { type: "string" },
    model: { type: "string" },
    q8: { type: "string" },
    f32: { type: "string" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    "prompt-tokens": { type: "string", default: "128,512" },
    "new-tokens": { type: "string", default: "128" },
    "browser-tokens": { type: "string", default: "64" },
    reps: { type: "string", default: "3" },
    "skip-browser": { type: "boolean", default: false },
    out: { type: "string", default: "bench/results/peers.json" },
  });
  const peers = resolve(required(flags.peers, "--peers"));
  const model = resolve(required(flags.model, "--model"));
  const q8 = resolve(required(flags.q8, "--q8"));
  const f32 = resolve(required(flags.f32, "--f32"));
  const rounds = wholeFlag(flags.rounds, "--rounds");
  const promptTokens = wholeFlags(flags["prompt-tokens"], "--prompt-tokens").sort((a, b) => a - b);
  const [threads, newTokens, browserTokens, reps, lengths] = [
    wholeFlag(flags.threads, "--threads"),
    wholeFlag(flags["new-tokens"], "--new-tokens"),
    wholeFlag(flags["browser-tokens"], "--browser-tokens"),
    wholeFlag(flags.reps, "--reps"),
    promptTokens,
  ].map(String);
  const ourFlags = (tokens: string): string[] => [
    "--prompt-tokens",
    lengths,
    "--new-tokens",
    tokens,
    "--threads",
    threads,
    "--reps",
    reps,
    "--json",
  ];
  const ours = (dtype: string): string[] => [
    "dist/cli/main.js",
    "bench",
    "--model",
    model,
    "--dtype",
    dtype,
    ...ourFlags(newTokens),
  ];
  const theirs = (script: string, file: string, tokens: string): string[] => [
    join(peers, script),
    file,
    "--threads",
    threads,
    "--pp",
    lengths,
    "--tg",
    tokens,
    "--reps",
    reps,
  ];
  const browser = [
    "--import",
    "tsx",
    "bench/browser.ts",
    "--model",
    model,
    "--dtype",
    "int8",
    ...ourFlags(browserTokens),
  ];
  const engines: Engine[] = [
    { name: "ours int8", command: ours("int8"), read: readOurs, runs: [] },
    { name: "node-llama-cpp Q8_0", command: theirs("nlc.mjs", q8, newTokens), read: readNodeLlama, runs: [] },
    { name: "ours f32", command: ours("f32"), read: readOurs, runs: [] },
    { name: "node-llama-cpp F32", command: theirs("nlc.mjs", f32, newTokens), read: readNodeLlama, runs: [] },
  ];
  if (!flags["skip-browser"])
    engines.push(
      { name: "ours int8, Chromium", command: browser, read: readBrowser, runs: [] },
      { name: "wllama Q8_0, Chromium", command: theirs("wllama.mjs", q8, browserTokens), read: readWllama, runs: [] },
    );
  const environment = describeEnvironment();
  for (let round = 1; round <= rounds; round++) {
    for (const engine of round % 2 === 1 ? engines : engines.toReversed()) await runOnce(engine, round);
    const summaries = engines.map((engine) => summarizeEngine(engine, promptTokens));
    const ratios = makeRatios(engines, promptTokens.at(-1)!);
    writeJson(flags.out, {
      what: "this library beside its peers, tokens a second",
      ...environment,
      settings: {
        rounds: round,
        threads: Number(threads),
        promptTokens,
        newTokens: Number(newTokens),
        browserTokens: Number(browserTokens),
        reps: Number(reps),
      },
      ratios,
      engines: summaries,
    });
    if (round === rounds) printTables(summaries, ratios, promptTokens);
  }
  console.log(`\n${rounds} rounds, ${threads} threads; ${describeMachineLine(environment)}`);
});
