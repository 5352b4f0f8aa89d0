// mamba inspect: what a checkpoint holds, from its headers alone.
import type { Command } from "commander";
import { defaultModelFolder } from "../../default-model-node.ts";
import type { TensorInfo } from "../../io/index.ts";
import { openTensors } from "../../io/index.ts";
import { loadMambaConfig } from "../../models/mamba/checkpoint.ts";
import type { MambaConfig } from "../../models/mamba/config.ts";
import { stateBytes } from "../../models/mamba/state.ts";
import { formatBytes, formatCount, formatTable } from "../format.ts";
import { openModel } from "../load-model.ts";
import { jsonOption, MODEL_HELP } from "../options.ts";
import { bold, print, printJson } from "../output.ts";
import { weightBytes } from "./inspect/weight-bytes.ts";

const EXAMPLES = `
Reads only the headers of the files, but a model of the hub is downloaded first.
Without a model: the one that comes with this package.
--json prints {model, config, parameters, tensors: [{name, shape, parameters,
dtype, file}], stateBytes, weightBytes: {f32, int8}}.

Examples:
  $ mamba inspect state-spaces/mamba-130m-hf
  $ mamba inspect runs/books/best --json`;

export interface Inspection {
  readonly model: string;
  readonly config: MambaConfig;
  /** Elements of all tensors of the model; a tied head counts once. */
  readonly parameters: number;
  /** In the order of the file. */
  readonly tensors: readonly {
    name: string;
    shape: readonly number[];
    parameters: number;
    dtype: string;
    file: string;
  }[];
  /** Of one sequence, in float32; the same at any length. */
  readonly stateBytes: number;
  /** Of the weights in memory, by --dtype. */
  readonly weightBytes: { readonly f32: number; readonly int8: number };
}

export function addInspect(program: Command): void {
  program
    .command("inspect")
    .summary("what a checkpoint holds")
    .description("Show a checkpoint's configuration, its tensors, and the memory that it takes.")
    .argument("[model]", MODEL_HELP)
    .addOption(jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(async (model: string | undefined, flags: { json?: boolean }) => {
      const inspection = await inspect(model ?? defaultModelFolder());
      if (flags.json) await printJson(inspection);
      else await print(describe(inspection));
    });
}

async function inspect(nameOrFolder: string): Promise<Inspection> {
  const source = await openModel(nameOrFolder);
  const config = await loadMambaConfig(source);
  const reader = await openTensors(source);
  try {
    const tensors = [...reader.tensors.values()].map(describeTensor);
    const isHeadTwice = config.tieEmbeddings && reader.tensors.has("lm_head.weight");
    const counted = tensors.filter(({ name }) => !(isHeadTwice && name === "lm_head.weight"));
    return {
      model: source.description,
      config,
      parameters: counted.reduce((sum, { parameters }) => sum + parameters, 0),
      tensors,
      stateBytes: stateBytes(config),
      weightBytes: { f32: weightBytes(config, "f32"), int8: weightBytes(config, "int8") },
    };
  } finally {
    await reader.close();
  }
}

function describeTensor({ name, shape, dtype, file }: TensorInfo): Inspection["tensors"][number] {
  return { name, shape, parameters: shape.reduce((product, axis) => product * axis, 1), dtype, file };
}

function describe({ model, config, parameters, tensors, ...bytes }: Inspection): string {
  const fields = Object.entries(config).map(([name, value]) => [`  ${name}`, String(value ?? "none")]);
  const rows = tensors.map(({ name, shape, parameters: count, dtype }) => [
    `  ${name}`,
    `[${shape.join(", ")}]`,
    formatCount(count),
    dtype,
  ]);
  return [
    bold(model),
    formatTable(fields),
    "",
    bold("Tensors"),
    formatTable([["  name", "shape", "parameters", "in the file"], ...rows], [2]),
    "",
    `${bold("Parameters")}  ${formatCount(parameters)}`,
    `${bold("State")}       ${formatBytes(bytes.stateBytes)} a sequence, at any length`,
    `${bold("Weights")}     ${formatBytes(bytes.weightBytes.f32)} in memory as f32, ${formatBytes(bytes.weightBytes.int8)} as int8`,
    "",
  ].join("\n");
}
