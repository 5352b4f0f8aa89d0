// mamba inspect: what a checkpoint holds, from its headers alone.
import type { Command } from "commander";
import { defaultModelFolder } from "../../default-model-node.ts";
import type { TensorInfo } from "../../io/index.ts";
import { openTensors } from "../../io/index.ts";
import type { AnyConfig } from "../../models/auto.ts";
import { loadConfig, modelOf } from "../../models/auto.ts";
import { formatBytes, formatCount, formatTable } from "../format.ts";
import { openModel } from "../load-model.ts";
import { jsonOption, MODEL_HELP } from "../options.ts";
import { bold, print, printJson } from "../output.ts";
import { weightBytes } from "./inspect/weight-bytes.ts";

const EXAMPLES = `
Reads only the headers of the files, but a model of the hub is downloaded first.
Without a model: the one that comes with this package.
--json prints {model, config, parameters, tensors: [{name, shape, parameters,
dtype, file}], stateBytes, stateBytesPerToken, weightBytes: {f32, int8}}.

Examples:
  $ mamba inspect state-spaces/mamba-130m-hf
  $ mamba inspect runs/books/best --json`;

export interface Inspection {
  readonly model: string;
  readonly config: AnyConfig;
  /** Of the model: a tied head counts once, scales of int8 do not. */
  readonly parameters: number;
  /** In the order of the file. */
  readonly tensors: readonly {
    name: string;
    shape: readonly number[];
    parameters: number;
    dtype: string;
    file: string;
  }[];
  /** Of one sequence, in float32, whatever its length. */
  readonly stateBytes: number;
  /** That each token adds: keys and values of attention. */
  readonly stateBytesPerToken: number;
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
  const config = await loadConfig(source);
  const reader = await openTensors(source);
  try {
    const model = modelOf(config);
    const tensors = [...reader.tensors.values()].map(describeTensor);
    return {
      model: source.description,
      config,
      parameters: model.parameterCount,
      tensors,
      stateBytes: model.stateBytes.constant,
      stateBytesPerToken: model.stateBytes.perToken,
      weightBytes: { f32: weightBytes(model, "f32"), int8: weightBytes(model, "int8") },
    };
  } finally {
    await reader.close();
  }
}

function describeTensor({ name, shape, dtype, file }: TensorInfo): Inspection["tensors"][number] {
  return { name, shape, parameters: shape.reduce((product, axis) => product * axis, 1), dtype, file };
}

function describe({ model, config, parameters, tensors, ...bytes }: Inspection): string {
  const fields = Object.entries(config).map(([name, value]) => [`  ${name}`, describeField(value)]);
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
    `${bold("State")}       ${describeState(bytes)}`,
    `${bold("Weights")}     ${formatBytes(bytes.weightBytes.f32)} in memory as f32, ${formatBytes(bytes.weightBytes.int8)} as int8`,
    "",
  ].join("\n");
}

function describeState({
  stateBytes,
  stateBytesPerToken,
}: Pick<Inspection, "stateBytes" | "stateBytesPerToken">): string {
  const constant = `${formatBytes(stateBytes)} a sequence`;
  if (stateBytesPerToken === 0) return `${constant}, at any length`;
  const growing = `${formatBytes(stateBytesPerToken)} a token`;
  return stateBytes === 0 ? growing : `${constant}, and ${growing}`;
}

/** Layers of a stack by the kinds of their mixers: attention, mlp, attention, mlp. */
function describeField(value: unknown): string {
  if (!Array.isArray(value)) return String((value as string | number | boolean | undefined) ?? "none");
  const layers = value as readonly (readonly { readonly kind: string }[])[];
  return layers.map((branches) => branches.map(({ kind }) => kind).join(" + ")).join(", ");
}
