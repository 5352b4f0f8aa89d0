// Times the selective scan's kernels, forward and backward, and one decoding step.
// npx tsx bench/scan.ts [--seconds 4: for each of two builds with 1 and 2 threads] [--out bench/results/scan.json]
// Cases take turns round by round, so that a disturbance of the machine meets all of them alike.
import type { WasmBuild } from "../src/backends/wasm/index.ts";
import { WasmBackend } from "../src/backends/wasm/index.ts";
import { createRandom } from "../src/core/random.ts";
import type { ScanInputs } from "../src/ops/selective-scan/index.ts";
import { selectiveScan } from "../src/ops/selective-scan/index.ts";
import type { Tensor } from "../src/tensor/tensor.ts";
import { emptyTensor, tensorFrom, zeros } from "../src/tensor/tensor.ts";
import {
  describeEnvironment,
  describeMachineLine,
  markdownTable,
  readFlags,
  runScript,
  wholeFlag,
  writeJson,
} from "./support.ts";

const SEED = 1;
const { definition } = selectiveScan;
const forward = definition.kernels.wasm!;
const backward = definition.gradient!.kernels.wasm!;

interface Case {
  readonly name: string;
  /** Channels times steps of one run: 1 to report the whole. */
  readonly units: number;
  readonly runs: number;
  readonly body: () => void;
  readonly times: number[];
}

/** x and z are halves of one tensor, dtRaw stands alone, B and C are columns of x_proj's output: as in a Mamba block. */
function makeInputs(backend: WasmBackend, length: number, dInner: number, dState: number): ScanInputs {
  const random = createRandom(SEED);
  const make = (shape: number[], element = () => random.normal()) =>
    tensorFrom(backend, Float32Array.from({ length: shape.reduce((a, b) => a * b) }, element), shape);
  const xz = make([1, length, 2 * dInner]);
  const projected = make([1, length, 48 + 2 * dState]);
  return {
    x: xz.columnsOf(0, dInner),
    z: xz.columnsOf(dInner, 2 * dInner),
    dtRaw: make([1, length, dInner], () => random.normal() - 4),
    A: tensorFrom(
      backend,
      Float32Array.from({ length: dInner * dState }, (_, i) => -1 - (i % dState)),
      [dInner, dState],
    ),
    B: projected.columnsOf(48, 48 + dState),
    C: projected.columnsOf(48 + dState, 48 + 2 * dState),
    D: make([dInner]),
    dtBias: make([dInner]),
    initialState: make([1, dInner, dState]),
  };
}

function makeCases(backend: WasmBackend, length: number, dInner: number, dState: number): Case[] {
  const inputs = makeInputs(backend, length, dInner, dState);
  const outputs = { y: emptyTensor(backend, inputs.x.shape), finalState: emptyTensor(backend, [1, dInner, dState]) };
  const saved = { chunkStarts: emptyTensor(backend, definition.saves!(inputs, {}).chunkStarts.shape) };
  const gradInputs = Object.fromEntries(
    definition.gradient!.of.map((name) => [name, zeros(backend, (inputs[name] as Tensor).shape)]),
  );
  const gradOutputs = { y: inputs.z };
  const units = length * dInner;
  const name = `L=${length} dInner=${dInner} dState=${dState}`;
  return [
    {
      name: `forward ${name}`,
      units,
      runs: 1,
      times: [],
      body: () => forward({ inputs, outputs, saved: undefined, options: {} }, backend),
    },
    {
      name: `forward for training ${name}`,
      units,
      runs: 1,
      times: [],
      body: () => forward({ inputs, outputs, saved, options: {} }, backend),
    },
    {
      name: `backward ${name}`,
      units,
      runs: 1,
      times: [],
      body: () => backward({ inputs, outputs, saved, options: {}, gradOutputs, gradInputs }, backend),
    },
  ];
}

function decodeCase(backend: WasmBackend): Case {
  const inputs = makeInputs(backend, 1, 1536, 16);
  const outputs = { y: emptyTensor(backend, inputs.x.shape), finalState: inputs.initialState! };
  const plan = backend.capture(() => forward({ inputs, outputs, saved: undefined, options: {} }, backend));
  return { name: "decode dInner=1536 dState=16, whole step", units: 1, runs: 100, times: [], body: () => plan.run() };
}

function measure(cases: readonly Case[], seconds: number): void {
  const end = performance.now() + seconds * 1000;
  const warm = performance.now() + Math.min(1500, seconds * 300);
  while (performance.now() < end)
    for (const { body, runs, times, units } of cases) {
      const start = performance.now();
      for (let run = 0; run < runs; run++) body();
      if (start > warm) times.push(((performance.now() - start) * 1e6) / runs / units);
    }
}

interface CaseSummary {
  readonly name: string;
  readonly unit: string;
  readonly median: number;
  readonly minimum: number;
  readonly quartile1: number;
  readonly quartile3: number;
  readonly runs: number;
}

function summarizeCase({ name, times }: Case): CaseSummary {
  times.sort((a, b) => a - b);
  const quantile = (q: number): number => Math.round(times[Math.floor(q * (times.length - 1))] * 100) / 100;
  return {
    name,
    unit: "ns",
    median: quantile(0.5),
    minimum: quantile(0),
    quartile1: quantile(0.25),
    quartile3: quantile(0.75),
    runs: times.length,
  };
}

await runScript(async () => {
  const flags = readFlags({
    seconds: { type: "string", default: "4" },
    out: { type: "string", default: "bench/results/scan.json" },
  });
  const seconds = wholeFlag(flags.seconds, "--seconds");
  const results: { build: string; threads: number; backwardOverForward: number; cases: CaseSummary[] }[] = [];
  for (const build of ["relaxed", "simd"] as WasmBuild[])
    for (const threads of [1, 2]) {
      const backend = await WasmBackend.create({ build, threads });
      const cases = [...makeCases(backend, 512, 1536, 16), ...makeCases(backend, 512, 256, 64), decodeCase(backend)];
      measure(cases, seconds);
      const summaries = cases.map(summarizeCase);
      const ratio = summaries[2].minimum / summaries[0].minimum;
      results.push({ build, threads, backwardOverForward: Math.round(ratio * 100) / 100, cases: summaries });
      backend.dispose();
    }
  const environment = describeEnvironment();
  writeJson(flags.out, { what: "selectiveScan, nanoseconds a (channel, step)", seed: SEED, ...environment, results });
  console.log(
    markdownTable(
      ["ns: median (minimum)", ...results.map(({ build, threads }) => `${build}, ${threads} threads`)],
      [
        ...results[0].cases.map(({ name }, i) => [
          name,
          ...results.map(({ cases }) => `${cases[i].median} (${cases[i].minimum})`),
        ]),
        ["backward over forward, dState 16, minima", ...results.map(({ backwardOverForward }) => backwardOverForward)],
      ],
    ),
  );
  console.log(`\n${describeMachineLine(environment)}`);
});
