// The options of `mamba task run`.
import { Option } from "commander";
import { DEVICES } from "../../../backends/index.ts";
import { ARCHITECTURES } from "../../../models/architectures.ts";
import type { NumberRule } from "../../options.ts";
import * as options from "../../options.ts";

const COUNT: NumberRule = { least: 1, most: 2 ** 31 - 1 };
const POSITIVE: NumberRule = { least: 0, isAbove: true };
const SHARE: NumberRule = { least: 0, most: 1 };

function lengthsOption(flags: string, help: string): Option {
  return new Option(flags, help).argParser((text: string) =>
    text.split(",").map((part) => options.parseNumber(part, flags.split(" ")[0], { ...COUNT, isWhole: true })),
  );
}

/** In the order of the help. None has a default of its own: a run that is resumed has its own. */
export function taskRunOptions(): Option[] {
  const { numberOption, wholeOption } = options;
  const names = ARCHITECTURES.map(({ name }) => name);
  return [
    new Option("--model <name>", "architecture (default: mamba)").choices(names),
    wholeOption("--d-model <n>", "width (default: 64)", COUNT),
    wholeOption("--layers <n>", "layers (default: 2)", COUNT),
    new Option(
      "--model-option <name=value>",
      "another option of the model, such as dState=32; may be repeated",
    ).argParser(options.collect),
    wholeOption("--vocab <n>", "tokens of the vocabulary (default: that of the paper)", COUNT),
    wholeOption("--tokens <n>", "selective-copying: tokens to remember (default: 16)", COUNT),
    wholeOption("--pairs <n>", "mqar: pairs of key and value (default: a quarter of the length)", COUNT),
    wholeOption("--modulus <n>", "modular-arithmetic: of what (default: 5)", COUNT),
    new Option(
      "--target <where>",
      "parity, modular-arithmetic: ask for each answer so far (default) or at the end",
    ).choices(["each", "end"]),
    wholeOption("--length <n>", "length to learn (default: 256; state tracking: 64)", COUNT),
    lengthsOption("--curriculum <list>", "ascending lengths to begin with, with commas between"),
    numberOption("--bar <share>", "accuracy that leads to the next of them (default: 0.95)", SHARE),
    wholeOption("--steps <n>", "most updates (default: 10000)", COUNT),
    numberOption("--max-minutes <n>", "most minutes of training", POSITIVE),
    wholeOption("--batch <n>", "examples side by side (default: 64)", COUNT),
    numberOption("--lr <rate>", "highest learning rate (default: 0.002)", POSITIVE),
    new Option("--schedule <name>", "of the learning rate (default: constant)").choices(["constant", "cosine"]),
    wholeOption("--warmup <n>", "steps of linear warm-up (default: 0)"),
    numberOption("--weight-decay <x>", "of AdamW (default: 0)", { least: 0 }),
    numberOption("--beta2 <x>", "of AdamW (default: 0.95)", SHARE),
    numberOption("--clip <norm>", "largest norm of all gradients together (default: 1)", POSITIVE),
    numberOption("--stop-at <share>", "accuracy that ends training (default: 0.999; 0: none)", SHARE),
    wholeOption("--stop-checks <n>", "checks in a row that must reach it (default: 3)", COUNT),
    wholeOption("--eval-every <n>", "steps between checks (default: a tenth of the steps, 250 at the most)", COUNT),
    wholeOption("--eval-examples <n>", "examples of a check (default: 256)", COUNT),
    lengthsOption("--lengths <list>", "lengths to examine (default: the task's: 64 to 2^20 for induction-heads)"),
    wholeOption("--examples <n>", "examples at each (default: 16 to 1024, for some 4 million tokens)", COUNT),
    new Option("--precision <name>", "f32 (default), or mixed: float16 inside the blocks, on a GPU").choices([
      "f32",
      "mixed",
    ]),
    new Option("--checkpoint-blocks", "compute blocks again for their gradients: less memory, more time"),
    wholeOption("--seed <n>", "of weights and examples (default: 0)", { least: Number.MIN_SAFE_INTEGER }),
    new Option("--out <folder>", "folder of the run: task.json, last/, metrics.jsonl"),
    wholeOption("--save-every <n>", "steps between saves of last/ (default: a tenth of the steps)", COUNT),
    new Option("--resume", "continue the run in --out, with its settings"),
    new Option("--device <device>", `${options.DEVICE_HELP} (default: auto)`).choices(DEVICES),
    options.threadsOption(),
    options.jsonOption(),
  ];
}
