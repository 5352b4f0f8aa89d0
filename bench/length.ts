// Whether time per token depends on the length: prefill of 1k to 64k tokens, and decoding behind as many; and the memory.
// npx tsx bench/length.ts --model FOLDER [--dtype int8] [--threads 2] [--lengths 1024,4096,16384,65536]
//   [--depths 0,1024,16384,65536] [--reps 5] [--new-tokens 64] [--out bench/results/length.json]
// Without --model: random weights of the 130m shape. Lengths take turns round by round; long ones get fewer rounds.
import type { MambaState } from "../src/models/mamba/state.ts";
import { openBenchModel } from "../src/cli/commands/bench/open-model.ts";
import { peakMemoryBytes } from "../src/cli/memory.ts";
import { createRandom } from "../src/core/random.ts";
import { DecodeSession } from "../src/generate/session.ts";
import { ConfigError } from "../src/core/errors.ts";
import { MambaModel } from "../src/models/mamba/model.ts";
import type { Summary } from "./support.ts";
import {
  describeEnvironment,
  describeMachineLine,
  describeSummary,
  dtypeFlag,
  markdownTable,
  mebibytes,
  readFlags,
  runScript,
  summarize,
  watchForeignLoad,
  wholeFlag,
  wholeFlags,
  worstDeviationPercent,
  writeJson,
} from "./support.ts";

const SEED = 0;
const WARM_UP_TOKENS = 512;
const WARM_UP_STEPS = 8;
/** No length is prefilled again once its rounds have come to this many tokens. */
const TOKENS_PER_LENGTH = 3 * 16384;

interface Row {
  readonly tokens: number;
  readonly msPerToken: Summary;
  /** Of the process so far; rows are measured in order of length. */
  readonly peakBytes: number;
  readonly foreignLoad: number | null;
}

/** Prefills every length from an empty state, round by round. States are left at the depths to decode from. */
async function measurePrefill(
  model: MambaModel,
  ids: Int32Array,
  lengths: readonly number[],
  { reps, states }: { reps: number; states: Map<number, MambaState> },
): Promise<Row[]> {
  const measured = lengths.map((tokens) => ({ tokens, times: [] as number[], loads: [] as number[], peakBytes: 0 }));
  for (let rep = 0; rep < reps; rep++)
    for (const row of measured) {
      if (rep > 0 && (rep + 1) * row.tokens > TOKENS_PER_LENGTH) continue;
      const foreignLoad = watchForeignLoad();
      const session = new DecodeSession<MambaState>(model, model.initialState());
      const started = performance.now();
      await session.prefill(ids.subarray(0, row.tokens));
      row.times.push((performance.now() - started) / row.tokens);
      row.loads.push(foreignLoad() ?? Number.NaN);
      if (rep === 0) {
        row.peakBytes = peakMemoryBytes();
        states.get(row.tokens)?.dispose();
        states.set(row.tokens, session.state.fork());
      }
      session.dispose();
      console.error(`prefill ${row.tokens}: ${row.times.at(-1)!.toFixed(3)} ms a token`);
    }
  return measured.map(({ tokens, times, loads, peakBytes }) => toRow(tokens, times, loads, peakBytes));
}

/** Decodes from every depth, round by round, each time from the same state. */
async function measureDecode(
  model: MambaModel,
  ids: Int32Array,
  depths: readonly number[],
  { reps, newTokens, states }: { reps: number; newTokens: number; states: ReadonlyMap<number, MambaState> },
): Promise<Row[]> {
  const measured = depths.map((tokens) => ({ tokens, times: [] as number[], loads: [] as number[] }));
  for (let rep = 0; rep < reps; rep++)
    for (const { tokens, times, loads } of measured) {
      const session = new DecodeSession<MambaState>(model, states.get(tokens)!.fork());
      for (let i = 0; i < WARM_UP_STEPS; i++) await session.step(ids.subarray(i, i + 1));
      const foreignLoad = watchForeignLoad();
      const started = performance.now();
      for (let i = 0; i < newTokens; i++) await session.step(ids.subarray(i, i + 1));
      times.push((performance.now() - started) / newTokens);
      loads.push(foreignLoad() ?? Number.NaN);
      session.dispose();
    }
  return measured.map(({ tokens, times, loads }) => toRow(tokens, times, loads, peakMemoryBytes()));
}

function toRow(tokens: number, times: readonly number[], loads: readonly number[], peakBytes: number): Row {
  const worst = Math.max(...loads);
  return { tokens, msPerToken: summarize(times), peakBytes, foreignLoad: Number.isNaN(worst) ? null : worst };
}

/** States at depths that are not among the lengths, and the empty one. */
async function addStates(
  model: MambaModel,
  ids: Int32Array,
  depths: readonly number[],
  states: Map<number, MambaState>,
): Promise<void> {
  for (const depth of depths) {
    if (states.has(depth)) continue;
    const session = new DecodeSession<MambaState>(model, model.initialState());
    if (depth > 0) await session.prefill(ids.subarray(0, depth));
    states.set(depth, session.state.fork());
    session.dispose();
  }
}

await runScript(async () => {
  const flags = readFlags({
    model: { type: "string" },
    dtype: { type: "string", default: "int8" },
    threads: { type: "string", default: "2" },
    lengths: { type: "string", default: "1024,4096,16384,65536" },
    depths: { type: "string", default: "0,1024,16384,65536" },
    reps: { type: "string", default: "5" },
    "new-tokens": { type: "string", default: "64" },
    out: { type: "string", default: "bench/results/length.json" },
  });
  const dtype = dtypeFlag(flags.dtype);
  const lengths = wholeFlags(flags.lengths, "--lengths").sort((a, b) => a - b);
  const depths = wholeFlags(flags.depths, "--depths", 0).sort((a, b) => a - b);
  const reps = wholeFlag(flags.reps, "--reps");
  const newTokens = wholeFlag(flags["new-tokens"], "--new-tokens");
  const opened = await openBenchModel({
    ...(flags.model === undefined ? {} : { model: flags.model }),
    device: "wasm",
    dtype,
    threads: wholeFlag(flags.threads, "--threads"),
  });
  const { model } = opened;
  if (!(model instanceof MambaModel))
    throw new ConfigError("bench/length: the model must be a Mamba, whose time a token is the same at every length.");
  const { backend } = model;
  const weightBytes = backend.memory().liveBytes;
  const random = createRandom(SEED);
  const longest = Math.max(WARM_UP_TOKENS, newTokens, ...lengths, ...depths);
  const ids = Int32Array.from({ length: longest }, () => random.integer(model.config.vocabSize));
  const states = new Map<number, MambaState>();
  await addStates(model, ids.subarray(0, WARM_UP_TOKENS), [0, WARM_UP_TOKENS], states);
  const prefill = await measurePrefill(model, ids, lengths, { reps, states });
  await addStates(model, ids, depths, states);
  const decode = await measureDecode(model, ids, depths, { reps, newTokens, states });
  const environment = describeEnvironment();
  const deviation = (rows: readonly Row[]): number => worstDeviationPercent(rows.map((row) => row.msPerToken.median));
  const result = {
    what: "milliseconds a token by length of the prompt and by depth",
    seed: SEED,
    ...environment,
    parameters: model.parameterCount,
    shape: { dModel: model.config.dModel, nLayer: model.config.nLayer },
    dtype,
    threads: backend.threads,
    weightBytes,
    peakBytes: peakMemoryBytes(),
    prefill,
    decode,
    worstDeviationPercent: { prefill: deviation(prefill), decode: deviation(decode) },
  };
  opened.dispose();
  writeJson(flags.out, result);
  const toCells = (what: string, { tokens, msPerToken, peakBytes, foreignLoad }: Row): (string | number | null)[] => [
    `${what} ${tokens}`,
    describeSummary(msPerToken),
    msPerToken.runs,
    mebibytes(peakBytes),
    foreignLoad,
  ];
  console.log(
    markdownTable(
      ["", "ms a token (least to most)", "runs", "peak MiB so far", "others' share"],
      [...prefill.map((row) => toCells("prefill", row)), ...decode.map((row) => toCells("decode at", row))],
    ),
  );
  const { worstDeviationPercent: worst } = result;
  console.log(`\nWorst distance from the median: prefill ${worst.prefill} %, decode ${worst.decode} %.`);
  console.log(
    `${dtype}, ${backend.threads} threads, weights ${mebibytes(weightBytes)} MiB; ${describeMachineLine(environment)}`,
  );
});
