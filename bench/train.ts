// Tokens a second of training a byte model of about a million parameters with AdamW: whole steps, as `train` runs them.
// npx tsx bench/train.ts [--d-model 160] [--layers 6] [--batch 8] [--length 512] [--steps 15] [--warm-up 3] [--threads 2]
//   [--out bench/results/train.json]
// Data: random bytes, seed 0. Speed does not depend on what is learned.
import { peakMemoryBytes } from "../src/cli/memory.ts";
import { createRandom } from "../src/core/random.ts";
import { joinDocuments, randomWindows } from "../src/data/index.ts";
import { Mamba } from "../src/mamba.ts";
import { train } from "../src/train/index.ts";
import {
  describeEnvironment,
  describeMachineLine,
  describeSummary,
  markdownTable,
  mebibytes,
  readFlags,
  runScript,
  summarize,
  watchForeignLoad,
  wholeFlag,
  writeJson,
} from "./support.ts";

const SEED = 0;
const LEARNING_RATE = 1e-3;
/** Windows' worth of random bytes to draw from. */
const WINDOWS = 64;

function randomBytes(count: number): ReturnType<typeof joinDocuments> {
  const random = createRandom(SEED);
  return joinDocuments([Uint8Array.from({ length: count }, () => random.integer(256))], 256, count);
}

await runScript(async () => {
  const flags = readFlags({
    "d-model": { type: "string", default: "160" },
    layers: { type: "string", default: "6" },
    batch: { type: "string", default: "8" },
    length: { type: "string", default: "512" },
    steps: { type: "string", default: "15" },
    "warm-up": { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    out: { type: "string", default: "bench/results/train.json" },
  });
  const dModel = wholeFlag(flags["d-model"], "--d-model");
  const nLayer = wholeFlag(flags.layers, "--layers");
  const batch = wholeFlag(flags.batch, "--batch");
  const length = wholeFlag(flags.length, "--length");
  const steps = wholeFlag(flags.steps, "--steps");
  const warmUp = wholeFlag(flags["warm-up"], "--warm-up");
  const mamba = await Mamba.create(
    { dModel, nLayer },
    { device: "wasm", threads: wholeFlag(flags.threads, "--threads"), seed: SEED },
  );
  const seconds: number[] = [];
  const losses: number[] = [];
  let foreignLoad = watchForeignLoad();
  let before = performance.now();
  await train({
    model: mamba.model,
    data: randomWindows(randomBytes(WINDOWS * length + 1), { batch, length, seed: SEED }),
    steps: warmUp + steps,
    learningRate: LEARNING_RATE,
    schedule: "constant",
    onProgress: ({ step, loss }) => {
      const now = performance.now();
      losses.push(loss);
      if (step > warmUp) seconds.push((now - before) / 1000);
      else if (step === warmUp) foreignLoad = watchForeignLoad();
      before = performance.now();
    },
  });
  const environment = describeEnvironment();
  const result = {
    what: "training steps (data, forward, backward, clipping, AdamW)",
    seed: SEED,
    ...environment,
    parameters: mamba.model.parameterCount,
    config: mamba.config,
    threads: mamba.backend.threads,
    batch,
    length,
    warmUpSteps: warmUp,
    secondsPerStep: summarize(seconds),
    tokensPerSecond: summarize(seconds.map((each) => (batch * length) / each)),
    loss: { first: losses[0], last: losses.at(-1) },
    memory: { peakBytes: peakMemoryBytes(), tensorPeakBytes: mamba.backend.memory().peakBytes },
    foreignLoad: foreignLoad(),
  };
  mamba.dispose();
  writeJson(flags.out, result);
  console.log(
    markdownTable(
      ["training", `${result.parameters.toLocaleString("en-US")} parameters, batch ${batch} x ${length}`],
      [
        ["tokens a second (least to most)", describeSummary(result.tokensPerSecond)],
        ["seconds a step (least to most)", describeSummary(result.secondsPerStep)],
        ["steps", seconds.length],
        ["peak MiB of the process", mebibytes(result.memory.peakBytes)],
        ["peak MiB of tensors", mebibytes(result.memory.tensorPeakBytes)],
        ["share of the machine that others took", result.foreignLoad],
      ],
    ),
  );
  console.log(`\ndModel ${dModel}, ${nLayer} layers, ${result.threads} threads; ${describeMachineLine(environment)}`);
});
