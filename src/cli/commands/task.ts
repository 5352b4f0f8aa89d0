// mamba task: the synthetic tasks of the papers, learned by a small model and examined at many lengths.
import { join } from "node:path";
import type { Command } from "commander";
import { openDevice } from "../../backends/index.ts";
import { createRandom } from "../../core/random.ts";
import { createTask, TASKS } from "../../data/index.ts";
import { ARCHITECTURES, createModel } from "../../models/architectures.ts";
import { describeDevice, noteThreads, reportDevice } from "../device.ts";
import { formatCount, formatSeconds, formatTable } from "../format.ts";
import { catchInterrupt } from "../interrupt.ts";
import { describeMachine } from "../machine.ts";
import * as options from "../options.ts";
import { log, print, printJson } from "../output.ts";
import { createBar } from "../progress.ts";
import { readVersion } from "../version.ts";
import type { Examination } from "./task/examine.ts";
import { examine, tableOf } from "./task/examine.ts";
import type { Learned } from "./task/learn.ts";
import { learn } from "./task/learn.ts";
import type { TaskRecord } from "./task/record.ts";
import { writeRecord } from "./task/record.ts";
import { reportTasks } from "./task/report.ts";
import { taskRunOptions } from "./task/run-options.ts";
import type { TaskFlags, TaskPlan } from "./task/settings.ts";
import { planTaskRun } from "./task/settings.ts";

const EXAMPLES = `
Training takes fresh random examples, and is scored on the answers alone. Every
--eval-every steps accuracy is measured on other examples; training ends when it
reaches --stop-at. Then the model is examined at --lengths, in chunks with a
carried state; a length that it cannot hold ends that, with the reason.
--curriculum 64,256 begins with these lengths; the next one follows when accuracy
passes --bar. --out gets task.json (settings, curve, accuracy by length, machine),
last/ (a checkpoint, and what resumes) and metrics.jsonl.
--json prints what task.json holds.

Examples:
  $ mamba task list
  $ mamba task run induction-heads --d-model 32 --length 32 --batch 8 --lr 0.001 --lengths 32,64,128,1024
  $ mamba task run selective-copying --length 4096 --curriculum 64,256,1024 --device webgpu --out runs/copying
  $ mamba task run mqar --vocab 256 --length 64 --model-option dState=32
  $ mamba task run parity --target end --layers 1 --lengths 64,256
  $ mamba task run selective-copying --out runs/copying --resume
  $ mamba task report runs/copying runs/copying-s4d --out report`;

export function addTask(program: Command, done: (exitCode: number) => void): void {
  const command = program
    .command("task")
    .summary("learn a synthetic task of the papers, and examine it by length")
    .description("Synthetic tasks: selective copying, induction heads, associative recall, state tracking.")
    .addHelpText("after", EXAMPLES);
  command
    .command("list")
    .summary("the tasks and the models")
    .description("List the tasks with their options, and the models.")
    .addOption(options.jsonOption())
    .action(async ({ json }: { json?: boolean }) => (json ? printJson(listing()) : print(describeListing())));
  command
    .command("report")
    .summary("several runs of one task as a page with charts")
    .description("Draw the report of runs of one task: accuracy by length, and curves, model by model.")
    .argument("<folders...>", "the --out of mamba task run")
    .option("--out <folder>", "folder of the report", "report")
    .option("--title <text>", "of the report")
    .action(drawReport);
  const run = command
    .command("run")
    .summary("train a model on a task")
    .description("Train a model on a task, and measure its accuracy by length.")
    .argument("<task>", "the task's name; see mamba task list");
  for (const option of taskRunOptions()) run.addOption(option);
  run
    .addHelpText("after", EXAMPLES)
    .action(async (name: string, flags: TaskFlags & { json?: boolean }) => done(await runTask(name, flags)));
}

/** The charts' libraries are loaded where they are wanted alone. */
async function drawReport(folders: string[], { out, title }: { out: string; title?: string }): Promise<void> {
  const { writeReport } = await import("../../report/write-node.ts");
  await writeReport(await reportTasks(folders, title), out);
  await print(`The report: ${join(out, "index.html")}\n`);
}

function listing(): object {
  const tasks = TASKS.map(({ name, summary, takes }) => {
    const { options: defaults, vocabSize, defaultLength } = createTask(name);
    return { name, summary, takes, defaults, vocabSize, defaultLength };
  });
  return { tasks, models: ARCHITECTURES.map(({ name, description }) => ({ name, description })) };
}

function describeListing(): string {
  const tasks = TASKS.map(({ name, summary, takes }) => [name, summary, takes.map((one) => `--${one}`).join(" ")]);
  const models = ARCHITECTURES.map(({ name, description }) => [name, description]);
  return `${formatTable([["task", "what is asked", "options"], ...tasks])}\n\n${formatTable([["model", ""], ...models])}\n`;
}

async function runTask(name: string, { json, ...flags }: TaskFlags & { json?: boolean }): Promise<number> {
  const plan = await planTaskRun(name, flags);
  const { settings, task } = plan;
  const backend = await openDevice(flags.device ?? "auto", options.defined({ threads: flags.threads }));
  noteThreads(backend, options.defined({ threads: flags.threads }));
  const sizes = { dModel: settings.dModel, nLayer: settings.layers, vocabSize: task.vocabSize };
  const made = { ...sizes, ...settings.modelOptions };
  const model = createModel(settings.model, made, backend, createRandom(settings.seed));
  const bar = createBar("training", { quietMs: 0 });
  const interrupt = catchInterrupt("Finishing the step and saving (once more to kill).", (line) => bar.log(line));
  const record = (learned: Learned, examined: Examination): TaskRecord => ({
    ...identify(plan),
    parameters: model.parameterCount,
    ...reportDevice(backend),
    machine: describeMachine(),
    ...learned,
    ...examined,
  });
  try {
    log(`mamba.ts ${readVersion()} · ${describeDevice(backend)} · seed ${settings.seed}`);
    log(`task: ${task.name}, ${task.description}`);
    log(`model: ${settings.model}, ${formatCount(model.parameterCount)} parameters`);
    log(`settings: ${JSON.stringify(settings)}`);
    const nothing: Examination = { accuracy: [], stoppedAt: null };
    const onCheck = (learned: Learned): Promise<void> => writeRecord(flags.out, record(learned, nothing));
    const learned = await learn({ plan, flags, model, bar, signal: interrupt.signal, onCheck });
    bar.end();
    log(describeLearned(learned));
    const result = record(learned, interrupt.signal.aborted ? nothing : await examined(plan, flags));
    await writeRecord(flags.out, result);
    if (json) await printJson(result);
    else if (!interrupt.signal.aborted) await print(tableOf(result));
  } catch (error) {
    if (!interrupt.signal.aborted || error !== interrupt.signal.reason) throw error;
  } finally {
    bar.end();
    interrupt.release();
    model.dispose();
  }
  return interrupt.exitCode();

  function examined({ lengths }: TaskPlan, { examples }: TaskFlags): Promise<Examination> {
    return examine(model, task, lengths, { examples, seed: settings.seed, signal: interrupt.signal });
  }
}

function identify({ settings }: TaskPlan): Pick<TaskRecord, "what" | "version" | "command" | "settings"> {
  const command = `mamba ${process.argv.slice(2).join(" ")}`;
  return { what: "mamba task", version: readVersion(), command, settings };
}

function describeLearned({ step, tokens, seconds, learned }: Learned): string {
  const made = `${formatCount(step)} steps, ${formatCount(tokens)} tokens, ${formatSeconds(seconds)}`;
  return `${made}: ${learned ? "learned" : "the bar of --stop-at was not asked for, or not reached"}`;
}
