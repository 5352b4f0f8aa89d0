// The configuration of a Mamba-1 language model, and its two dialects: Hugging Face's and state-spaces'.
import { ConfigError } from "../../core/errors.ts";
import type { ConfigFields } from "../config-fields.ts";
import { defined, flag, number, optionalNumber, parseConfigFields } from "../config-fields.ts";

/** Sizes of a Mamba-1 language model. */
export interface MambaConfig {
  /** Width of the residual stream (D). */
  readonly dModel: number;
  readonly nLayer: number;
  /** Rows of the embedding, padding included. */
  readonly vocabSize: number;
  /** Width inside the block (E·D). */
  readonly dInner: number;
  /** States a channel (N), 1 to 256. */
  readonly dState: number;
  /** Taps of the causal convolution, 2 to 4. */
  readonly dConv: number;
  /** Rank of the projection of the step size (R). */
  readonly dtRank: number;
  /** Whether the linear layers of the block have biases. */
  readonly useBias: boolean;
  readonly useConvBias: boolean;
  /** Whether the head is the embedding's transpose. */
  readonly tieEmbeddings: boolean;
  readonly normEps: number;
  /** Id of the token that ends a text, if there is one. */
  readonly eosTokenId: number | undefined;
}

/** What a person gives: width, layers and vocabulary; the rest has the official defaults. */
export interface MambaOptions extends Partial<Omit<MambaConfig, "dtRank">> {
  readonly dModel: number;
  readonly nLayer: number;
  readonly vocabSize: number;
  /** dInner = expand · dModel, when dInner is not given. Default 2. */
  readonly expand?: number;
  /** "auto" = ceil(dModel / 16). */
  readonly dtRank?: number | "auto";
}

const MAX_STATE = 256;
const MAX_SIZE = 2 ** 31 - 1;

/** Fills in the defaults and checks every field. Throws ConfigError with the field, its rule and what came. */
export function mambaConfig(options: MambaOptions, where = "mambaConfig"): MambaConfig {
  const { dModel, nLayer, vocabSize, expand = 2, dtRank = "auto" } = options;
  checkSize(where, "dModel", dModel, 1, MAX_SIZE);
  const config: MambaConfig = {
    dModel,
    nLayer,
    vocabSize,
    dInner: options.dInner ?? expand * dModel,
    dState: options.dState ?? 16,
    dConv: options.dConv ?? 4,
    dtRank: dtRank === "auto" ? Math.ceil(dModel / 16) : dtRank,
    useBias: options.useBias ?? false,
    useConvBias: options.useConvBias ?? true,
    tieEmbeddings: options.tieEmbeddings ?? true,
    normEps: options.normEps ?? 1e-5,
    eosTokenId: options.eosTokenId,
  };
  checkSize(where, "nLayer", nLayer, 1, 10_000);
  checkSize(where, "vocabSize", vocabSize, 1, MAX_SIZE);
  checkSize(where, "dInner (expand · dModel)", config.dInner, 1, MAX_SIZE);
  checkSize(where, "dState", config.dState, 1, MAX_STATE);
  checkSize(where, "dConv", config.dConv, 2, 4);
  checkSize(where, "dtRank", config.dtRank, 1, MAX_SIZE);
  if (!(config.normEps > 0 && config.normEps < 1))
    throw new ConfigError(`${where}: normEps must lie between 0 and 1, got ${config.normEps}.`);
  if (config.eosTokenId !== undefined) checkSize(where, "eosTokenId", config.eosTokenId, 0, MAX_SIZE);
  return config;
}

function checkSize(where: string, field: string, value: unknown, least: number, most: number): void {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return;
  throw new ConfigError(
    `${where}: ${field} must be a whole number from ${least} to ${most}, got ${JSON.stringify(value)}.`,
  );
}

/** Parses a config.json of either dialect. `where` names the file in errors. */
export function parseMambaConfig(json: string, where: string): MambaConfig {
  const fields = parseConfigFields(json, where);
  return "hidden_size" in fields ? fromHuggingFaceConfig(fields, where) : fromStateSpacesConfig(fields, where);
}

/** Hugging Face's MambaConfig (`model_type: "mamba"`). Explicit sizes win over derived ones (intermediate_size over expand). */
export function fromHuggingFaceConfig(fields: ConfigFields, where: string): MambaConfig {
  const type = fields.model_type ?? "mamba";
  if (type !== "mamba")
    throw new ConfigError(
      `${where}: model_type must be "mamba", got ${JSON.stringify(type)}. Other architectures are not supported yet.`,
    );
  const activation = fields.hidden_act ?? "silu";
  if (activation !== "silu")
    throw new ConfigError(`${where}: hidden_act must be "silu", got ${JSON.stringify(activation)}.`);
  const dtRank = fields.time_step_rank ?? "auto";
  return mambaConfig(
    defined({
      dModel: number(fields.hidden_size, where, "hidden_size"),
      nLayer: number(fields.num_hidden_layers ?? fields.n_layer, where, "num_hidden_layers"),
      vocabSize: number(fields.vocab_size, where, "vocab_size"),
      dInner: optionalNumber(fields.intermediate_size, where, "intermediate_size"),
      expand: optionalNumber(fields.expand, where, "expand"),
      dState: optionalNumber(fields.state_size, where, "state_size"),
      dConv: optionalNumber(fields.conv_kernel, where, "conv_kernel"),
      dtRank: dtRank === "auto" ? dtRank : number(dtRank, where, "time_step_rank"),
      // The class default of transformers is true for both.
      useBias: flag(fields.use_bias ?? true, where, "use_bias"),
      useConvBias: flag(fields.use_conv_bias ?? true, where, "use_conv_bias"),
      tieEmbeddings: flag(fields.tie_word_embeddings ?? true, where, "tie_word_embeddings"),
      normEps: optionalNumber(fields.layer_norm_epsilon, where, "layer_norm_epsilon"),
      eosTokenId: optionalNumber(fields.eos_token_id ?? undefined, where, "eos_token_id"),
    }),
    where,
  );
}

/** state-spaces' config.json: d_model, n_layer, vocab_size padded up to pad_vocab_size_multiple, and ssm_cfg. */
export function fromStateSpacesConfig(fields: ConfigFields, where: string): MambaConfig {
  const ssm = (fields.ssm_cfg ?? {}) as Record<string, unknown>;
  if (typeof ssm !== "object")
    throw new ConfigError(`${where}: ssm_cfg must be an object, got ${JSON.stringify(ssm)}.`);
  const layer = ssm.layer ?? "Mamba1";
  if (layer !== "Mamba1")
    throw new ConfigError(
      `${where}: ssm_cfg.layer must be "Mamba1", got ${JSON.stringify(layer)}. Other layers are not supported yet.`,
    );
  if (Array.isArray(fields.attn_layer_idx) && fields.attn_layer_idx.length > 0)
    throw new ConfigError(`${where}: attn_layer_idx must be empty: attention layers are not supported yet.`);
  if (typeof fields.d_intermediate === "number" && fields.d_intermediate > 0)
    throw new ConfigError(`${where}: d_intermediate must be 0: MLP layers are not supported yet.`);
  if (fields.rms_norm === false) throw new ConfigError(`${where}: rms_norm must be true: LayerNorm is not supported.`);
  const vocabSize = number(fields.vocab_size, where, "vocab_size");
  const multiple = optionalNumber(fields.pad_vocab_size_multiple, where, "pad_vocab_size_multiple") ?? 8;
  const dtRank = ssm.dt_rank ?? "auto";
  return mambaConfig(
    defined({
      dModel: number(fields.d_model, where, "d_model (or hidden_size)"),
      nLayer: number(fields.n_layer, where, "n_layer"),
      vocabSize: Math.ceil(vocabSize / multiple) * multiple,
      expand: optionalNumber(ssm.expand, where, "ssm_cfg.expand"),
      dState: optionalNumber(ssm.d_state, where, "ssm_cfg.d_state"),
      dConv: optionalNumber(ssm.d_conv, where, "ssm_cfg.d_conv"),
      dtRank: dtRank === "auto" ? dtRank : number(dtRank, where, "ssm_cfg.dt_rank"),
      useBias: flag(ssm.bias ?? false, where, "ssm_cfg.bias"),
      useConvBias: flag(ssm.conv_bias ?? true, where, "ssm_cfg.conv_bias"),
      tieEmbeddings: flag(fields.tie_embeddings ?? true, where, "tie_embeddings"),
      eosTokenId: 0,
    }),
    where,
  );
}

/** The config.json that Hugging Face transformers reads. */
export function toHuggingFaceConfig(
  config: MambaConfig,
  dtype: "float32" | "float16" | "bfloat16",
): Record<string, unknown> {
  return {
    architectures: ["MambaForCausalLM"],
    model_type: "mamba",
    hidden_size: config.dModel,
    num_hidden_layers: config.nLayer,
    vocab_size: config.vocabSize,
    intermediate_size: config.dInner,
    expand: config.dInner / config.dModel,
    state_size: config.dState,
    conv_kernel: config.dConv,
    time_step_rank: config.dtRank,
    use_bias: config.useBias,
    use_conv_bias: config.useConvBias,
    tie_word_embeddings: config.tieEmbeddings,
    layer_norm_epsilon: config.normEps,
    residual_in_fp32: true,
    hidden_act: "silu",
    ...(config.eosTokenId === undefined
      ? { eos_token_id: null, bos_token_id: null, pad_token_id: null }
      : { eos_token_id: config.eosTokenId, bos_token_id: config.eosTokenId, pad_token_id: config.eosTokenId }),
    torch_dtype: dtype,
  };
}
