// mamba compare: several architectures under the same conditions, from a budget to a report with charts.
import type { Command } from "commander";
import type { CompareProgress, CompareResult } from "../../compare/options.ts";
import { DataError } from "../../core/errors.ts";
import type { ReferenceSeries } from "../../report/schema.ts";
import { readText } from "../files.ts";
import { formatSeconds } from "../format.ts";
import { catchInterrupt } from "../interrupt.ts";
import { log, print, printJson } from "../output.ts";
import type { Bar } from "../progress.ts";
import { createBar } from "../progress.ts";
import { readVersion } from "../version.ts";
import type { CompareFlags } from "./compare/flags.ts";
import { compareOptions, settingsOf } from "./compare/flags.ts";
import { describe, summarise } from "./compare/summary.ts";

const EXAMPLES = `
Each model gets a width and layers for --parameters, the same tokens in the same
order, and a learning rate of its own. Then are measured: quality on held-out
texts and by place in the context, longer inputs than in training, speed and
memory of prompts, of decoding, and of training. What an architecture cannot do,
or not in time, the report says with the reason, and the rest goes on.
--tune makes the rates fair: each model is trained on a share of its tokens at each
of some rates, and the one that predicts what is held out best is used. --minutes
do not count these trials; they add 60 % of the training, or up to 90 %.
--out gets report.json, index.html, charts/, runs/NAME/last (checkpoints that
the other commands load), and compare.json, from which --resume goes on. They are
written after each part; Ctrl-C saves what is under way.
--only speed needs no training. --sweep trains sizes and fits power laws.
--references: [{"name", "source", "chart": "prefill"|"decode"|"batch"|"training"|
"memory", "points": [{"x", "y"}]}], seconds, tokens/s or bytes against tokens.
--json prints {report, page, stopped, title, models: [{name, status, reason,
parameters, bitsPerByte, accuracy, trainingTokensPerSecond}], findings}.

Examples:
  $ mamba compare --quick
  $ mamba compare --quick --data book.txt --out first
  $ mamba compare --data books/ --parameters 1M --tokens 20M --out report
  $ mamba compare --data books/ --held-out moby-dick.txt emma.txt --minutes 10 --architectures mamba,transformer,lstm
  $ mamba compare --data books/ --parameters 1M --tokens 20M --tune
  $ mamba compare --task selective-copying --length 256 --d-model 64 --layers 2 --tokens 50M
  $ mamba compare --data books/ --sweep 0.3M,1M,3M --device webgpu --precision mixed
  $ mamba compare --data books/ --only speed --max-length 2^17 --device webgpu
  $ mamba compare --resume --out report`;

export function addCompare(program: Command, done: (exitCode: number) => void): void {
  const command = program
    .command("compare")
    .summary("architectures against each other, in a report")
    .description("Compare architectures of one size: train, measure, and draw a report.");
  for (const option of compareOptions()) command.addOption(option);
  command.addHelpText("after", EXAMPLES).action(async (flags: CompareFlags) => done(await run(flags)));
}

async function run(flags: CompareFlags): Promise<number> {
  const settings = settingsOf(flags);
  // Only now: what draws charts takes time to load, and no other command needs it.
  const { compare } = await import("../../compare/index.ts");
  const references = flags.references === undefined ? undefined : await readReferences(flags.references);
  const screen = new Screen();
  const interrupt = catchInterrupt("Saving what is under way (once more to kill).", (line) => screen.log(line));
  try {
    const result = await compare({
      settings,
      out: flags.out,
      resume: flags.resume,
      references,
      command: `mamba ${process.argv.slice(2).join(" ")}`,
      software: `mamba.ts ${readVersion()}`,
      signal: interrupt.signal,
      onProgress: (progress) => screen.show(progress),
      onLine: (line) => screen.log(line),
    });
    screen.end();
    await conclude(result, flags);
  } catch (error) {
    if (!interrupt.signal.aborted || error !== interrupt.signal.reason) throw error;
  } finally {
    screen.end();
    interrupt.release();
  }
  return interrupt.exitCode();
}

async function conclude(result: CompareResult, { out, json }: CompareFlags): Promise<void> {
  const summary = summarise(result, out);
  if (json) await printJson(summary);
  else await print(describe(result, summary, `mamba compare --resume --out ${out}`));
}

/** A bar for the part under way, with the time that is left of all. */
class Screen {
  #bar: Bar | undefined;
  #part = "";

  show({ done, total, part, share, note, secondsLeft }: CompareProgress): void {
    const left = `part ${done + 1}/${total} · ${formatSeconds(secondsLeft)} left`;
    if (part !== this.#part || !this.#bar) {
      this.end();
      this.#part = part;
      this.#bar = createBar(part, { quietMs: 0 });
      if (!this.#bar.isShown) log(`${part} · ${left}`);
    }
    this.#bar.update(share, [note, left].filter((text) => text !== "").join(" · "));
  }

  log(line: string): void {
    if (this.#bar) this.#bar.log(line);
    else log(line);
  }

  end(): void {
    this.#bar?.end();
    this.#bar = undefined;
  }
}

/** A JSON list, or a report whose references are taken. Their form is checked with the report. */
async function readReferences(path: string): Promise<readonly ReferenceSeries[]> {
  const text = await readText(path, "--references");
  try {
    const found = JSON.parse(text) as ReferenceSeries[] | { references?: ReferenceSeries[] };
    const list = Array.isArray(found) ? found : found.references;
    if (Array.isArray(list)) return list;
  } catch (cause) {
    throw new DataError(`--references ${path}: is not JSON: ${(cause as Error).message}.`, { cause });
  }
  throw new DataError(`--references ${path}: must be a list of series, or an object with such a list in references.`);
}
