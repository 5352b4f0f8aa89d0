// mamba train: makes a checkpoint from texts, or fine-tunes one.
import { join } from "node:path";
import type { Command } from "commander";
import type { ModelState } from "../../nn/language-model.ts";
import type { TextModel } from "../../text-model.ts";
import type { TrainOptions, TrainProgress, TrainResult } from "../../train/index.ts";
import { train } from "../../train/index.ts";
import { describeDevice, reportDevice } from "../device.ts";
import { formatCount, formatSeconds, significant } from "../format.ts";
import { catchInterrupt } from "../interrupt.ts";
import { jsonOption } from "../options.ts";
import { log, print, printJson } from "../output.ts";
import type { Bar } from "../progress.ts";
import { createBar } from "../progress.ts";
import { readVersion } from "../version.ts";
import type { PreparedData } from "./train/prepare.ts";
import { prepareData, prepareModel } from "./train/prepare.ts";
import { readSettings, rememberedSettings, settingOptions } from "./train/read-settings.ts";
import type { TrainSettings } from "./train/settings.ts";
import { DEFAULT_STEPS } from "./train/settings.ts";

type TrainFlags = TrainSettings & { config?: string; json?: boolean };

const EXAMPLES = `
Every option may stand in a JSON file instead (--config), under its name in
camelCase: {"dModel": 256, "data": ["books"]}. Flags win over the file; paths
are relative to where the command runs. --out gets last/ (a checkpoint that also
resumes), best/ (lowest evaluation loss) and metrics.jsonl. Ctrl-C finishes the
step, saves and exits with 130; go on with --resume.
--json prints {out, version, seed, device, threads, build, adapter, parameters,
step, steps, tokens, loss, evaluation, best, stopped, seconds}.

Examples:
  $ mamba train --data books/ --out runs/books --steps 2000
  $ mamba train --data books/ --out runs/wide --d-model 256 --layers 6 --batch 16 --length 512 --lr 0.001
  $ mamba train --resume --out runs/books
  $ mamba train --resume --out runs/books --steps 4000
  $ mamba train --data letters.txt --model state-spaces/mamba-130m-hf --out runs/letters --lr 0.0001
  $ mamba train --data books/ --out runs/gpu --device webgpu --precision mixed --d-model 768 --layers 24 --checkpoint-blocks
  $ mamba train --config run.json --seed 2 --out runs/seed-2`;

export function addTrain(program: Command, done: (exitCode: number) => void): void {
  const command = program
    .command("train")
    .summary("make a checkpoint from texts, or fine-tune one")
    .description("Train a model on texts: a new one, or one that exists.")
    .option("--config <file>", "a JSON file with settings");
  for (const option of settingOptions()) command.addOption(option);
  command
    .addOption(jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(async (flags: TrainFlags) => done(await run(flags)));
}

async function run({ config, json, ...flags }: TrainFlags): Promise<number> {
  const settings = await readSettings(flags, config);
  const started = performance.now();
  const mamba = await prepareModel(settings);
  const bar = createBar("training", { quietMs: 0 });
  const interrupt = catchInterrupt("Finishing the step and saving (once more to kill).", (line) => bar.log(line));
  try {
    const data = await prepareData(settings, mamba.tokenizer);
    for (const line of introduce(settings, mamba, data)) log(line);
    const options = trainOptions(settings, mamba, data);
    const onProgress = createReporter(bar, options.logEvery ?? 1);
    const result = await train({ ...options, signal: interrupt.signal, onProgress });
    bar.end();
    const seconds = (performance.now() - started) / 1000;
    if (json) await printJson({ ...identify(settings, mamba), steps: options.steps, ...result, seconds });
    else await print(conclude(settings, result, seconds));
  } finally {
    bar.end();
    interrupt.release();
    mamba.dispose();
  }
  return interrupt.exitCode();
}

/** What the library is asked for, with this command's defaults. */
function trainOptions(settings: TrainSettings, mamba: TextModel, data: PreparedData): TrainOptions<ModelState> {
  const { steps = DEFAULT_STEPS, lr = 0.002, schedule, warmup } = settings;
  const every = Math.max(1, Math.floor(steps / 10));
  const { evalEvery = data.evaluation ? every : undefined, saveEvery = every, logEvery = 10 } = settings;
  const { weightDecay, beta1, beta2, clip, accumulate, carryState = false, resume = false } = settings;
  const { precision, checkpointBlocks } = settings;
  return {
    model: mamba.model,
    data: (position) => data.open(position),
    evaluation: data.evaluation,
    steps,
    learningRate: lr,
    schedule,
    warmupSteps: warmup,
    minLearningRate: settings.minLr,
    weightDecay,
    beta1,
    beta2,
    clip,
    accumulate,
    carryState,
    precision,
    checkpointBlocks,
    evalEvery,
    saveEvery,
    logEvery,
    outputDir: settings.out,
    saveModel: (folder) => mamba.save(folder),
    resume,
    loadModel: (folder) => mamba.loadWeights(folder),
    settings: rememberedSettings(settings),
  };
}

/** The bar on a terminal, lines elsewhere; a line for every evaluation, and for every change of the loss scale, on both. */
function createReporter(bar: Bar, logEvery: number): (progress: TrainProgress) => void {
  let scale: number | undefined;
  return (progress) => {
    const { step, steps, loss, tokensPerSecond, secondsLeft, evaluation } = progress;
    const speed = `${significant(tokensPerSecond)} tokens/s · ${formatSeconds(secondsLeft)} left`;
    const line = `step ${step}/${steps} · loss ${loss.toFixed(4)}`;
    bar.update(step / steps, `${line} · ${speed}`);
    if (progress.lossScale !== scale) {
      scale = progress.lossScale;
      bar.log(`step ${step}/${steps} · loss scale ${scale}`);
    }
    if (evaluation)
      bar.log(
        `step ${step}/${steps} · evaluation ${evaluation.loss.toFixed(4)} nats, ${evaluation.bitsPerByte.toFixed(4)} bits per byte`,
      );
    else if (!bar.isShown && (step % logEvery === 0 || step === steps)) log(`${line} · ${speed}`);
  };
}

function identify({ out, seed = 0 }: TrainSettings, mamba: TextModel): Record<string, unknown> {
  const { parameterCount: parameters } = mamba.model;
  return { out, version: readVersion(), seed, ...reportDevice(mamba.backend), parameters };
}

/** What a run tells of itself first. */
function introduce(settings: TrainSettings, mamba: TextModel, data: PreparedData): string[] {
  const held = data.evaluation ? `, ${formatCount(data.evaluation.tokens.length)} held out` : "";
  return [
    `mamba.ts ${readVersion()} · ${describeDevice(mamba.backend)} · seed ${settings.seed ?? 0}`,
    `model: ${formatCount(mamba.model.parameterCount)} parameters, ${JSON.stringify(mamba.config)}`,
    `data: ${formatCount(data.trainTokens)} tokens (${mamba.tokenizer.name})${held}`,
    `settings: ${JSON.stringify(settings)}`,
  ];
}

function conclude({ out }: TrainSettings, result: TrainResult, seconds: number): string {
  const { step, tokens, loss, best, stopped } = result;
  const lossText = loss === undefined ? "" : `, loss ${loss.toFixed(4)}`;
  const bestText = best
    ? `, best evaluation ${best.loss.toFixed(4)} nats (${best.bitsPerByte.toFixed(4)} bits per byte) at step ${best.step}`
    : "";
  const next = stopped
    ? `Stopped; continue with: mamba train --resume --out ${out}`
    : `Try it: mamba generate --model ${join(out!, best ? "best" : "last")} --prompt "..."`;
  return `${step} steps, ${formatCount(tokens)} tokens in ${formatSeconds(seconds)}${lossText}${bestText}\n${next}\n`;
}
