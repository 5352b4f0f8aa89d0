// mamba eval: how well a model predicts a text.
import type { Command } from "commander";
import { DataError } from "../../core/errors.ts";
import { describeDevice, reportDevice } from "../device.ts";
import { readText } from "../files.ts";
import { formatCount } from "../format.ts";
import { catchInterrupt } from "../interrupt.ts";
import { loadModel } from "../load-model.ts";
import type { LoadFlags } from "../options.ts";
import * as options from "../options.ts";
import { logDim, print, printJson } from "../output.ts";
import { createBar } from "../progress.ts";

interface EvalFlags extends LoadFlags {
  text: string;
  window?: number;
  carryState?: boolean;
  json?: boolean;
}

const EXAMPLES = `
The file must be UTF-8; line ends and a byte order mark count as text. It is
tokenised without special tokens.
Without --window the text is one sequence. With --window N it is cut into
windows of N tokens, each read from a fresh state and scored on its N-1
predictions; a last partial window is dropped.
--json prints {tokens, predictions, nll, perplexity, bitsPerByte, device,
threads, build, adapter, dtype}; nll is in nats, mean over the predictions.

Examples:
  $ mamba eval --text book.txt
  $ mamba eval --model state-spaces/mamba-130m-hf --text book.txt --window 1024
  $ mamba eval --model state-spaces/mamba-130m-hf --text book.txt --dtype int8 --json`;

export function addEval(program: Command, done: (exitCode: number) => void): void {
  program
    .command("eval")
    .summary("how well a model predicts a text")
    .description("Score a text: negative log-likelihood, perplexity, and bits per byte.")
    .addOption(options.modelOption())
    .requiredOption("--text <file>", 'a text file; "-" reads standard input')
    .addOption(options.wholeOption("--window <n>", "score windows of n tokens, each from a fresh state", { least: 2 }))
    .option("--carry-state", "score the text as one sequence (as without --window)")
    .addOption(options.deviceOption())
    .addOption(options.dtypeOption())
    .addOption(options.threadsOption())
    .addOption(options.jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(async (flags: EvalFlags) => done(await run(flags)));
}

async function run(flags: EvalFlags): Promise<number> {
  const text = await readText(flags.text, "--text");
  if (text === "") throw new DataError(`--text ${flags.text}: the text is empty. Give at least two tokens.`);
  const { mamba } = await loadModel(flags);
  const bar = createBar("scoring");
  const interrupt = catchInterrupt("Stopping (once more to kill).", (line) => bar.log(line));
  try {
    const { tokens, predictions, nll, perplexity, bitsPerByte } = await mamba.evaluate(text, {
      window: flags.window,
      carryState: flags.carryState,
      signal: interrupt.signal,
      onProgress: ({ predictions: scored, total, nll: soFar }) =>
        bar.update(
          scored / total,
          `${formatCount(scored)} of ${formatCount(total)} predictions, ${soFar.toFixed(4)} nats`,
        ),
    });
    bar.end();
    if (flags.json)
      await printJson({
        tokens,
        predictions,
        nll,
        perplexity,
        bitsPerByte,
        ...reportDevice(mamba.backend),
        dtype: mamba.dtype,
      });
    else {
      if (process.stderr.isTTY) logDim(`[${describeDevice(mamba.backend)} ${mamba.dtype}]`);
      await print(
        `${formatCount(predictions)} predictions of ${formatCount(tokens)} tokens: ${nll.toFixed(4)} nats, ` +
          `perplexity ${perplexity.toFixed(3)}, ${bitsPerByte.toFixed(4)} bits per byte\n`,
      );
    }
  } catch (error) {
    if (!interrupt.signal.aborted || error !== interrupt.signal.reason) throw error;
  } finally {
    bar.end();
    interrupt.release();
    mamba.dispose();
  }
  return interrupt.exitCode();
}
