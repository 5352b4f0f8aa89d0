// mamba generate: continues a prompt, streaming to a terminal.
import { basename } from "node:path";
import type { Command } from "commander";
import { DataError, UsageError } from "../../core/errors.ts";
import type { GenerateOptions, GenerationResult } from "../../generate/generate.ts";
import { writeFileAtomic } from "../../io/index.ts";
import type { TextModel } from "../../text-model.ts";
import type { ModelState } from "../../nn/language-model.ts";
import { describeDevice, reportDevice } from "../device.ts";
import { checkFolderOf, readBytes, readText } from "../files.ts";
import { significant } from "../format.ts";
import { catchInterrupt } from "../interrupt.ts";
import { loadModel } from "../load-model.ts";
import { peakMemoryBytes } from "../memory.ts";
import type { LoadFlags } from "../options.ts";
import * as options from "../options.ts";
import { bold, logDim, print, printable, printJson } from "../output.ts";
import { readVersion } from "../version.ts";

interface GenerateFlags extends LoadFlags {
  prompt?: string;
  promptFile?: string;
  maxTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  seed: number;
  stop?: string[];
  stateIn?: string;
  stateOut?: string;
  json?: boolean;
}

const EXAMPLES = `
On a terminal the prompt is printed, then the new text as it comes; in a pipe
only the new text. The prompt is taken as it is, line end included. Ctrl-C stops
cleanly: what there is so far is the result, and --state-out is written.
--json prints {text, promptTokens, tokens, device, threads, build, adapter,
dtype, timings, memory}: the new text, the ids of the new tokens, the device
(build: the kernels of wasm; adapter: the GPU of webgpu), milliseconds and tokens
a second, and the largest resident set of the process (memory.peakBytes).

Examples:
  $ mamba generate --prompt "It was a dark night" --max-tokens 400 --temperature 0.8 --seed 7
  $ mamba generate --model state-spaces/mamba-130m-hf --dtype int8 --prompt "Mamba is" --temperature 0
  $ mamba generate --device webgpu --prompt "Once upon a time"
  $ echo "Once upon a time" | mamba generate -
  $ mamba generate --prompt-file chapter-1.txt --state-out chapter-1.state
  $ mamba generate --prompt "And then" --state-in chapter-1.state --stop "THE END" --json`;

export function addGenerate(program: Command, done: (exitCode: number) => void): void {
  program
    .command("generate")
    .summary("continue a prompt")
    .description("Continue a prompt, token by token.")
    .argument("[source]", '"-" reads the prompt from standard input')
    .addOption(options.modelOption())
    .option("--prompt <text>", 'the text to continue; "-" reads standard input')
    .option("--prompt-file <file>", 'a file with the text to continue; "-" reads standard input')
    .addOption(options.wholeOption("--max-tokens <n>", "new tokens at most").default(256))
    .addOption(
      options.numberOption("--temperature <t>", "0 is greedy, 1 leaves the model's probabilities (default: 1)", {
        least: 0,
      }),
    )
    .addOption(options.wholeOption("--top-k <k>", "only the k most likely tokens; 0 is off"))
    .addOption(
      options.numberOption("--top-p <p>", "only the most likely tokens that make up this probability", {
        least: 0,
        isAbove: true,
        most: 1,
      }),
    )
    .addOption(
      options.numberOption("--min-p <p>", "only tokens at least this times as likely as the likeliest", {
        least: 0,
        most: 1,
      }),
    )
    .addOption(
      options.numberOption("--repetition-penalty <r>", "above 1 makes repetitions rarer", { least: 0, isAbove: true }),
    )
    .addOption(
      options
        .wholeOption("--seed <s>", "of the draws; the same seed gives the same text", {
          least: Number.MIN_SAFE_INTEGER,
        })
        .default(0),
    )
    .option("--stop <text>", "stop at this text, which is left out (may be given several times)", options.collect)
    .addOption(options.deviceOption())
    .addOption(options.dtypeOption())
    .addOption(options.threadsOption())
    .option("--state-in <file>", "continue from this state instead of from nothing")
    .option("--state-out <file>", "write the state after the last token")
    .addOption(options.jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(async (source: string | undefined, flags: GenerateFlags) => done(await run(source, flags)));
}

async function run(source: string | undefined, flags: GenerateFlags): Promise<number> {
  const prompt = await readPrompt(source, flags);
  const savedState = flags.stateIn === undefined ? undefined : await readBytes(flags.stateIn, "--state-in");
  if (flags.stateOut !== undefined) await checkFolderOf(flags.stateOut, "--state-out");
  const { mamba, loadMs } = await loadModel(flags);
  const state = savedState && (await mamba.loadState(savedState, basename(flags.stateIn!)));
  const interrupt = catchInterrupt("Stopping (once more to kill).");
  try {
    const result = await stream(mamba, prompt, flags, { state, signal: interrupt.signal });
    if (flags.json) await printJson(toJson(mamba, result, loadMs));
    else if (process.stderr.isTTY) logDim(describe(mamba, result, flags));
  } catch (error) {
    if (!interrupt.signal.aborted || error !== interrupt.signal.reason) throw error;
  } finally {
    interrupt.release();
    state?.dispose();
    mamba.dispose();
  }
  return interrupt.exitCode();
}

/** Generates, and writes the text as it comes unless the result is to be JSON. */
async function stream(
  mamba: TextModel,
  prompt: string,
  flags: GenerateFlags,
  { state, signal }: { state: ModelState | undefined; signal: AbortSignal },
): Promise<GenerationResult> {
  const { stateOut } = flags;
  const generating: GenerateOptions = { ...flags, state, signal };
  if (stateOut !== undefined)
    generating.onState = async (after) => writeFileAtomic(stateOut, await mamba.saveState(after));
  const isTerminal = process.stdout.isTTY;
  const isStreaming = !flags.json;
  if (isStreaming && isTerminal) await print(bold(printable(prompt)));
  const tokens = mamba.generate(prompt, generating);
  let next = await tokens.next();
  for (; !next.done; next = await tokens.next()) {
    if (isStreaming) await print(isTerminal ? printable(next.value.text) : next.value.text);
  }
  if (isStreaming && !next.value.text.endsWith("\n")) await print("\n");
  return next.value;
}

/** The one prompt that was given, in whichever way. */
async function readPrompt(source: string | undefined, { prompt, promptFile }: GenerateFlags): Promise<string> {
  if (source !== undefined && source !== "-")
    throw new UsageError(
      `generate takes no argument but "-", got ${JSON.stringify(source)}. Did you mean --prompt ${JSON.stringify(source)}?`,
    );
  const given = [source, prompt, promptFile].filter((way) => way !== undefined);
  if (given.length !== 1)
    throw new UsageError(
      `generate needs one prompt, got ${given.length === 0 ? "none" : given.length}. Give --prompt TEXT, --prompt-file FILE, or "-" for standard input.`,
    );
  const file = source ?? promptFile ?? (prompt === "-" ? "-" : undefined);
  const text =
    file === undefined ? prompt! : await readText(file, promptFile === undefined ? "--prompt" : "--prompt-file");
  if (text === "") throw new DataError("generate: the prompt is empty. Give at least one character.");
  return text;
}

function toJson(mamba: TextModel, result: GenerationResult, loadMs: number): unknown {
  const { prefillMs, prefillTokensPerSecond, decodeTokensPerSecond } = result.timings;
  return {
    text: result.text,
    promptTokens: result.promptTokens,
    tokens: result.tokens,
    ...reportDevice(mamba.backend),
    dtype: mamba.dtype,
    timings: { loadMs, prefillMs, prefillTokensPerSecond, decodeTokensPerSecond },
    memory: { peakBytes: peakMemoryBytes() },
  };
}

function describe(
  mamba: TextModel,
  { tokens, promptTokens, timings }: GenerationResult,
  { seed }: GenerateFlags,
): string {
  const prefill = `prompt ${promptTokens} tokens, ${significant(timings.prefillTokensPerSecond)}/s`;
  const decode = `new ${tokens.length}, ${significant(timings.decodeTokensPerSecond)} tokens/s`;
  return `[${prefill} · ${decode} · ${describeDevice(mamba.backend)} ${mamba.dtype} · seed ${seed} · mamba.ts ${readVersion()}]`;
}
