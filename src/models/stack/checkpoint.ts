// Checkpoints of a stack: the layout of its family where it has one (Llama, GPT-NeoX), else the names of its own fields.
import { ConfigError } from "../../core/errors.ts";
import type { CheckpointLayout } from "../checkpoint/layout.ts";
import { CONFIG_NAMES, generationConfig, jsonText, wholeTensor } from "../checkpoint/layout.ts";
import type { ConfigFields } from "../config-fields.ts";
import type { StackConfig } from "./config.ts";
import { checkStackConfig } from "./config.ts";
import { fromGptNeoxConfig, gptNeoxLayout } from "./gpt-neox.ts";
import { fromLlamaConfig, llamaLayers, llamaLayout } from "./llama.ts";
import type { StackModel } from "./model.ts";

/** What config.json of a stack calls itself where no other family has its layers. */
export const STACK_TYPE = "mamba_ts_stack";

/** The configuration of a stack from a config.json, by its model_type. */
export function parseStackConfig(fields: ConfigFields, where: string): StackConfig {
  switch (fields.model_type) {
    case "llama":
      return fromLlamaConfig(fields, where);
    case "gpt_neox":
      return fromGptNeoxConfig(fields, where);
    case STACK_TYPE:
      return fromOwnConfig(fields, where);
    default:
      throw new ConfigError(
        `${where}: model_type must be "mamba", "llama", "gpt_neox" or "${STACK_TYPE}", got ${JSON.stringify(fields.model_type)}. Other architectures are not supported yet.`,
      );
  }
}

function fromOwnConfig({ stack }: ConfigFields, where: string): StackConfig {
  if (typeof stack !== "object" || stack === null || !Array.isArray((stack as Partial<StackConfig>).layers))
    throw new ConfigError(`${where}: stack must hold the configuration, with a list of layers.`);
  const { eosTokenId, ...config } = stack as StackConfig & { eosTokenId: number | null };
  return checkStackConfig({ ...config, eosTokenId: eosTokenId ?? undefined }, where);
}

/** How a stack lies in a file. */
export function stackLayout(model: StackModel): CheckpointLayout {
  const { config } = model;
  if (config.architecture === "gpt-neox") return gptNeoxLayout(model);
  if (llamaLayers(config)) return llamaLayout(model);
  return {
    tensors: new Map([...model.namedParameters()].map(([name, parameter]) => [name, wholeTensor(name, parameter)])),
    isIgnored: () => false,
    configFiles: (dtype) => ({
      "generation_config.json": jsonText(generationConfig(config.eosTokenId)),
      "config.json": jsonText({
        model_type: STACK_TYPE,
        vocab_size: config.vocabSize,
        stack: { ...config, eosTokenId: config.eosTokenId ?? null },
        torch_dtype: CONFIG_NAMES[dtype],
      }),
    }),
  };
}
