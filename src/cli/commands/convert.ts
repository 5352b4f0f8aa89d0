// mamba convert: writes any checkpoint that can be read as a Hugging Face folder.
import type { Command } from "commander";
import { Option } from "commander";
import type { WriteDType } from "../../io/index.ts";
import { formatCount } from "../format.ts";
import { openModel } from "../load-model.ts";
import { jsonOption, MODEL_HELP } from "../options.ts";
import { print, printJson } from "../output.ts";
import { createBar } from "../progress.ts";
import { convertCheckpoint } from "./convert/convert-checkpoint.ts";

interface ConvertFlags {
  out: string;
  dtype?: keyof typeof FILE_DTYPES;
  force?: boolean;
  json?: boolean;
}

const FILE_DTYPES = { f32: "F32", f16: "F16", bf16: "BF16", int8: "I8" } as const satisfies Record<string, WriteDType>;

const EXAMPLES = `
Reads folders and hub models of Hugging Face and of state-spaces
(pytorch_model.bin included), writes config.json, generation_config.json,
model.safetensors and the tokenizer. One tensor is in memory at a time.
int8 writes the weights of products as whole numbers with a scale a row, which
this library reads and transformers does not.
--json prints {model, out, dtype, tensors, parameters, files}.

Examples:
  $ mamba convert state-spaces/mamba-130m --out mamba-130m
  $ mamba convert runs/books/best --out books-f16 --dtype f16`;

export function addConvert(program: Command): void {
  program
    .command("convert")
    .summary("write a checkpoint as a Hugging Face folder")
    .description("Write any checkpoint that can be read as a folder that Hugging Face transformers loads.")
    .argument("<model>", MODEL_HELP.replace(/ \(default.*/, ""))
    .requiredOption("--out <folder>", "where to write")
    .addOption(
      new Option(
        "--dtype <dtype>",
        "element type of the file (default: as it was, float32 where it was mixed)",
      ).choices(Object.keys(FILE_DTYPES)),
    )
    .option("--force", "write even where a checkpoint is already")
    .addOption(jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(run);
}

async function run(model: string, { out, dtype, force = false, json }: ConvertFlags): Promise<void> {
  const source = await openModel(model);
  const bar = createBar("converting");
  try {
    const written = await convertCheckpoint(source, out, {
      dtype: dtype && FILE_DTYPES[dtype],
      isForced: force,
      onProgress: (share) => bar.update(share),
    });
    bar.end();
    if (json) await printJson({ model: source.description, out, ...written });
    else
      await print(
        `${out}: ${written.tensors} tensors, ${formatCount(written.parameters)} parameters, ${written.dtype}; ${written.files.join(", ")}\n`,
      );
  } finally {
    bar.end();
  }
}
