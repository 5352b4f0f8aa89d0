// The command line as a whole: its commands, its help, and what becomes of errors.
import { Command } from "commander";
import { addBench } from "./commands/bench.ts";
import { addCompare } from "./commands/compare.ts";
import { addConvert } from "./commands/convert.ts";
import { addDoctor } from "./commands/doctor.ts";
import { addEval } from "./commands/eval.ts";
import { addGenerate } from "./commands/generate.ts";
import { addInspect } from "./commands/inspect.ts";
import { addTask } from "./commands/task.ts";
import { addTrain } from "./commands/train.ts";
import { print } from "./output.ts";
import { reportError } from "./report-error.ts";
import { readVersion } from "./version.ts";

const EXAMPLES = `
Examples:
  $ mamba generate --prompt "The old man looked at the sea"
  $ mamba generate --model state-spaces/mamba-130m-hf --dtype int8 --prompt-file story.txt
  $ mamba eval --model my-model --text book.txt --window 1024
  $ mamba train --data books/ --out runs/books --steps 2000
  $ mamba task run induction-heads --length 32 --lengths 32,64,128,256
  $ mamba compare --quick
  $ mamba inspect state-spaces/mamba-130m-hf
  $ mamba doctor

Exit codes: 0 done, 1 failed, 2 used wrongly, 130 stopped by Ctrl-C.
"mamba <command> --help" shows the options and examples of a command.`;

/** Runs one command and gives its exit code. Never throws. */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  const run: Run = { exitCode: 0, name: "mamba" };
  try {
    const program = createProgram(run);
    if (args.length === 0) await print(program.helpInformation());
    else await program.parseAsync(args, { from: "user" });
    return run.exitCode;
  } catch (error) {
    return reportError(error, run.name);
  }
}

/** What a run leaves behind. */
interface Run {
  exitCode: number;
  /** The command that ran, for messages. */
  name: string;
}

function createProgram(run: Run): Command {
  const program = new Command("mamba")
    .description(
      "Mamba, the selective state-space model, and what it is held against: text from a checkpoint, a checkpoint from text, one architecture beside the other; on the CPU or a GPU.",
    )
    .version(readVersion(), "--version", "print the version")
    .helpOption("--help", "print this help")
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({ writeErr: () => undefined, outputError: () => undefined })
    .exitOverride()
    .addHelpText("after", EXAMPLES);
  const done = (exitCode: number): void => {
    run.exitCode = exitCode;
  };
  addGenerate(program, done);
  addEval(program, done);
  addTrain(program, done);
  addTask(program, done);
  addCompare(program, done);
  addInspect(program);
  addConvert(program);
  addDoctor(program, done);
  addBench(program);
  program.hook("preSubcommand", (_, command) => {
    run.name = `mamba ${command.name()}`;
  });
  return program;
}
