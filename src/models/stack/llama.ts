// Llama's layout: a Transformer++ under the names of Hugging Face, read and written.
// Source: Touvron et al. 2023; transformers' models/llama/modeling_llama.py.
import { ConfigError } from "../../core/errors.ts";
import type { CheckpointLayout, FileTensor } from "../checkpoint/layout.ts";
import { CONFIG_NAMES, generationConfig, jsonText, wholeTensor } from "../checkpoint/layout.ts";
import type { ConfigFields } from "../config-fields.ts";
import { expectOneOf, flag, number, optionalNumber } from "../config-fields.ts";
import type { MixerConfig, StackConfig } from "./config.ts";
import { checkStackConfig } from "./config.ts";
import type { StackModel } from "./model.ts";

type AttentionConfig = Extract<MixerConfig, { kind: "attention" }>;
type MlpConfig = Extract<MixerConfig, { kind: "mlp" }>;

/** `model_type: "llama"`. Scaled rotary positions (rope_scaling) are refused. */
export function fromLlamaConfig(fields: ConfigFields, where: string): StackConfig {
  expectOneOf(fields.hidden_act ?? "silu", ["silu"], where, "hidden_act");
  const rope = (fields.rope_parameters ?? {}) as ConfigFields;
  const scaling = (fields.rope_scaling ?? undefined) as ConfigFields | undefined;
  const ropeType = rope.rope_type ?? scaling?.rope_type ?? scaling?.type ?? "default";
  if (ropeType !== "default")
    throw new ConfigError(`${where}: rope_scaling must be none, got ${JSON.stringify(ropeType)}.`);
  const dModel = number(fields.hidden_size, where, "hidden_size");
  const nHeads = number(fields.num_attention_heads, where, "num_attention_heads");
  const nKvHeads = optionalNumber(fields.num_key_value_heads, where, "num_key_value_heads") ?? nHeads;
  const headDim = optionalNumber(fields.head_dim, where, "head_dim") ?? dModel / nHeads;
  const ropeBase = optionalNumber(rope.rope_theta ?? fields.rope_theta, where, "rope_theta") ?? 10000;
  const attention: MixerConfig = {
    kind: "attention",
    nHeads,
    nKvHeads,
    headDim,
    rotaryDim: headDim,
    ropeBase,
    useBias: flag(fields.attention_bias ?? false, where, "attention_bias"),
  };
  const mlp: MixerConfig = {
    kind: "mlp",
    activation: "swiglu",
    dInner: number(fields.intermediate_size, where, "intermediate_size"),
    useBias: flag(fields.mlp_bias ?? false, where, "mlp_bias"),
  };
  const nLayer = number(fields.num_hidden_layers, where, "num_hidden_layers");
  const eos = Array.isArray(fields.eos_token_id) ? (fields.eos_token_id as unknown[])[0] : fields.eos_token_id;
  return checkStackConfig(
    {
      architecture: "transformer",
      dModel,
      vocabSize: number(fields.vocab_size, where, "vocab_size"),
      layers: Array.from({ length: 2 * nLayer }, (_, i) => [i % 2 === 0 ? attention : mlp]),
      norm: "rms",
      normEps: optionalNumber(fields.rms_norm_eps, where, "rms_norm_eps") ?? 1e-6,
      tieEmbeddings: flag(fields.tie_word_embeddings ?? false, where, "tie_word_embeddings"),
      eosTokenId: optionalNumber(eos, where, "eos_token_id"),
    },
    where,
  );
}

/** The layers of a stack that Llama's layout can hold: attention and SwiGLU in turn, all alike, without biases. */
export function llamaLayers({
  layers,
  norm,
}: StackConfig): { attention: AttentionConfig; mlp: MlpConfig; nLayer: number } | undefined {
  const [attention, mlp] = [layers[0]?.[0], layers[1]?.[0]];
  if (norm !== "rms" || layers.length % 2 !== 0 || attention?.kind !== "attention" || mlp?.kind !== "mlp")
    return undefined;
  const texts = [attention, mlp].map((mixer) => JSON.stringify([mixer]));
  const isLlama =
    layers.every((branches, i) => JSON.stringify(branches) === texts[i % 2]) &&
    attention.rotaryDim === attention.headDim &&
    mlp.activation === "swiglu";
  return isLlama ? { attention, mlp, nLayer: layers.length / 2 } : undefined;
}

/** Of a model for which {@link llamaLayers} is defined. */
export function llamaLayout(model: StackModel): CheckpointLayout {
  const { attention, mlp, nLayer } = llamaLayers(model.config)!;
  const parameters = model.namedParameters();
  const tensors = new Map<string, FileTensor>();
  const whole = (name: string, parameter: string): void => {
    if (parameters.has(parameter)) tensors.set(name, wholeTensor(parameter, parameters.get(parameter)!));
  };
  /** Rows [from, from + count) of a weight and of its bias. */
  const rows = (name: string, parameter: string, from: number, count: number): void => {
    for (const part of ["weight", "bias"]) {
      const source = parameters.get(`${parameter}.${part}`);
      if (!source) continue;
      const columns = source.shape[1] ?? 1;
      const piece = { parameter: `${parameter}.${part}`, start: from * columns, fileStart: 0, count: count * columns };
      const { isPackable } = source;
      tensors.set(`${name}.${part}`, { shape: [count, ...source.shape.slice(1)], isPackable, pieces: [piece] });
    }
  };
  const [q, kv] = [attention.nHeads * attention.headDim, attention.nKvHeads * attention.headDim];
  whole("model.embed_tokens.weight", "embeddings.weight");
  for (let i = 0; i < nLayer; i++) {
    const [to, attend, feed] = [`model.layers.${i}`, `layers.${2 * i}.0`, `layers.${2 * i + 1}.0`];
    whole(`${to}.input_layernorm.weight`, `${attend}.norm.weight`);
    rows(`${to}.self_attn.q_proj`, `${attend}.mixer.qkv_proj`, 0, q);
    rows(`${to}.self_attn.k_proj`, `${attend}.mixer.qkv_proj`, q, kv);
    rows(`${to}.self_attn.v_proj`, `${attend}.mixer.qkv_proj`, q + kv, kv);
    rows(`${to}.self_attn.o_proj`, `${attend}.mixer.out_proj`, 0, model.config.dModel);
    whole(`${to}.post_attention_layernorm.weight`, `${feed}.norm.weight`);
    rows(`${to}.mlp.up_proj`, `${feed}.mixer.up`, 0, mlp.dInner);
    rows(`${to}.mlp.gate_proj`, `${feed}.mixer.up`, mlp.dInner, mlp.dInner);
    rows(`${to}.mlp.down_proj`, `${feed}.mixer.down`, 0, model.config.dModel);
  }
  whole("model.norm.weight", "norm_f.weight");
  whole("lm_head.weight", "lm_head.weight");
  return {
    tensors,
    isIgnored: (name) => name === "lm_head.weight" || name.endsWith("rotary_emb.inv_freq"),
    configFiles: (dtype) => ({
      "generation_config.json": jsonText(generationConfig(model.config.eosTokenId)),
      "config.json": jsonText({ ...toLlamaConfig(model.config), torch_dtype: CONFIG_NAMES[dtype] }),
    }),
  };
}

function toLlamaConfig(config: StackConfig): Record<string, unknown> {
  const { attention, mlp, nLayer } = llamaLayers(config)!;
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: config.dModel,
    num_hidden_layers: nLayer,
    num_attention_heads: attention.nHeads,
    num_key_value_heads: attention.nKvHeads,
    head_dim: attention.headDim,
    intermediate_size: mlp.dInner,
    vocab_size: config.vocabSize,
    rope_theta: attention.ropeBase,
    rms_norm_eps: config.normEps,
    hidden_act: "silu",
    attention_bias: attention.useBias,
    mlp_bias: mlp.useBias,
    tie_word_embeddings: config.tieEmbeddings,
    ...generationConfig(config.eosTokenId),
  };
}
