// mamba bench: tokens a second of prefill and decode, loading time and peak memory, on this machine.
import type { Command } from "commander";
import { Option } from "commander";
import { UsageError } from "../../core/errors.ts";
import { describeDevice, reportDevice } from "../device.ts";
import { formatBytes, formatCount, formatSeconds, formatTable, significant } from "../format.ts";
import { describeMachine } from "../machine.ts";
import { peakMemoryBytes } from "../memory.ts";
import type { LoadFlags } from "../options.ts";
import * as options from "../options.ts";
import { log, print, printJson } from "../output.ts";
import { readVersion } from "../version.ts";
import type { Measurement, Spread } from "./bench/measure.ts";
import { measureModel } from "./bench/measure.ts";
import { openBenchModel } from "./bench/open-model.ts";
import type { ShapeName } from "./bench/shapes.ts";
import { SHAPES } from "./bench/shapes.ts";

interface BenchFlags extends LoadFlags {
  shape?: ShapeName;
  promptTokens: number[];
  newTokens: number;
  reps: number;
  json?: boolean;
}

const EXAMPLES = `
Medians of --reps runs, after a warm-up; the spread is from the slowest to the
fastest. Tokens are random, of seed 0. Without --model the weights are random,
of the size that --shape names (vocabulary 50,280; tiny: 256), and loading is
not measured. Of a --model only the weights are loaded, no tokenizer.
--json prints {model, shape, dtype, device, threads, build, adapter, version,
seed, parameters, weightBytes, loadMs, prefill: [{tokens, tokensPerSecond: {median,
slowest, fastest}}], decode: {...}, memory: {peakBytes}, machine}.

Examples:
  $ mamba bench
  $ mamba bench --device webgpu
  $ mamba bench --shape 370m --dtype int8 --prompt-tokens 512
  $ mamba bench --model state-spaces/mamba-130m-hf --threads 1 --json`;

export function addBench(program: Command): void {
  program
    .command("bench")
    .summary("how fast a model runs here")
    .description("Measure prefill and decode tokens a second, time to load, and peak memory.")
    .addOption(new Option("--model <model>", "a folder, a name on the hub, or a URL").conflicts("shape"))
    .addOption(
      new Option("--shape <shape>", "random weights of this size (default: 130m)").choices(Object.keys(SHAPES)),
    )
    .addOption(
      new Option("--prompt-tokens <list>", "lengths of prompts to measure, with commas between")
        .argParser(parseLengths)
        .default([128, 512, 2048], "128,512,2048"),
    )
    .addOption(options.wholeOption("--new-tokens <n>", "tokens to decode", { least: 1 }).default(128))
    .addOption(options.wholeOption("--reps <n>", "runs of each", { least: 1 }).default(3))
    .addOption(options.deviceOption())
    .addOption(options.dtypeOption())
    .addOption(options.threadsOption())
    .addOption(options.jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(run);
}

function parseLengths(text: string): number[] {
  return text
    .split(",")
    .map((part) => options.parseNumber(part, "--prompt-tokens", { least: 1, most: 2 ** 24, isWhole: true }));
}

async function run(flags: BenchFlags): Promise<void> {
  if (flags.device === "reference" && flags.shape === undefined && flags.model === undefined)
    throw new UsageError(
      "bench: the reference device is far too slow for the 130m shape. Give --shape tiny or a --model.",
    );
  const opened = await openBenchModel(flags);
  const { model, name, shape, loadMs } = opened;
  const { backend } = model;
  const weightBytes = backend.memory().liveBytes;
  const about = {
    model: name,
    shape: shape ?? null,
    dtype: flags.dtype,
    ...reportDevice(backend),
    version: readVersion(),
    seed: 0,
    parameters: model.parameterCount,
    weightBytes,
    loadMs: loadMs ?? null,
  };
  log(
    `mamba.ts ${about.version} · ${name} ${formatCount(about.parameters)} parameters · ${describeDevice(backend)} ${flags.dtype}`,
  );
  try {
    const measured = await measureModel(model, { ...flags, onProgress: log });
    const result = { ...about, ...measured, memory: { peakBytes: peakMemoryBytes() }, machine: describeMachine() };
    if (flags.json) await printJson(result);
    else await print(describe(result));
  } finally {
    opened.dispose();
  }
}

type Result = Measurement & {
  weightBytes: number;
  loadMs: number | null;
  memory: { peakBytes: number };
  machine: ReturnType<typeof describeMachine>;
};

function describe({ prefill, decode, weightBytes, loadMs, memory, machine }: Result): string {
  const row = (what: string, { median, slowest, fastest }: Spread): string[] => [
    what,
    `${significant(median)} tokens/s`,
    `${significant(slowest)} to ${significant(fastest)}`,
  ];
  const rows = [
    ...prefill.map(({ tokens, tokensPerSecond }) => row(`prefill ${tokens}`, tokensPerSecond)),
    row(`decode ${decode.tokens}`, decode.tokensPerSecond),
    ["loading", loadMs === null ? "not measured" : formatSeconds(loadMs / 1000), ""],
    ["weights", formatBytes(weightBytes), ""],
    ["peak memory", formatBytes(memory.peakBytes), ""],
  ];
  return `${formatTable(rows)}\n${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, ${machine.platform}\n`;
}
