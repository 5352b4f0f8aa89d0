// GPT-NeoX's layout (Pythia): LayerNorm, attention and MLP side by side, GELU, partly rotated heads. Read and written.
// Source: Black et al. 2022; transformers' models/gpt_neox/modeling_gpt_neox.py.
import type { CheckpointLayout, FileTensor, Piece } from "../checkpoint/layout.ts";
import { CONFIG_NAMES, generationConfig, jsonText, wholeTensor } from "../checkpoint/layout.ts";
import type { ConfigFields } from "../config-fields.ts";
import { expectOneOf, flag, number, optionalNumber } from "../config-fields.ts";
import type { MixerConfig, StackConfig } from "./config.ts";
import { checkStackConfig } from "./config.ts";
import type { StackModel } from "./model.ts";

const ACTIVATIONS = { gelu: "gelu", gelu_new: "gelu-tanh", gelu_fast: "gelu-tanh" } as const;

/** `model_type: "gpt_neox"`. */
export function fromGptNeoxConfig(fields: ConfigFields, where: string): StackConfig {
  const rope = (fields.rope_parameters ?? {}) as ConfigFields;
  const names = Object.keys(ACTIVATIONS) as (keyof typeof ACTIVATIONS)[];
  const activation = ACTIVATIONS[expectOneOf(fields.hidden_act ?? "gelu", names, where, "hidden_act")];
  expectOneOf(rope.rope_type ?? "default", ["default"], where, "rope_parameters.rope_type");
  expectOneOf(fields.rope_scaling ?? null, [null], where, "rope_scaling");
  const dModel = number(fields.hidden_size, where, "hidden_size");
  const nHeads = number(fields.num_attention_heads, where, "num_attention_heads");
  const headDim = dModel / nHeads;
  const share = optionalNumber(rope.partial_rotary_factor ?? fields.rotary_pct, where, "rotary_pct") ?? 0.25;
  const ropeBase = optionalNumber(rope.rope_theta ?? fields.rotary_emb_base, where, "rotary_emb_base") ?? 10000;
  const attention: MixerConfig = {
    kind: "attention",
    nHeads,
    nKvHeads: nHeads,
    headDim,
    rotaryDim: Math.floor(headDim * share),
    ropeBase,
    useBias: flag(fields.attention_bias ?? true, where, "attention_bias"),
  };
  const dInner = number(fields.intermediate_size, where, "intermediate_size");
  const mlp: MixerConfig = { kind: "mlp", activation, dInner, useBias: true };
  const nLayer = number(fields.num_hidden_layers, where, "num_hidden_layers");
  const isParallel = flag(fields.use_parallel_residual ?? true, where, "use_parallel_residual");
  const layer = isParallel ? [[attention, mlp]] : [[attention], [mlp]];
  return checkStackConfig(
    {
      architecture: "gpt-neox",
      dModel,
      vocabSize: number(fields.vocab_size, where, "vocab_size"),
      layers: Array.from({ length: nLayer }, () => layer).flat(),
      norm: "layer",
      normEps: optionalNumber(fields.layer_norm_eps, where, "layer_norm_eps") ?? 1e-5,
      tieEmbeddings: flag(fields.tie_word_embeddings ?? false, where, "tie_word_embeddings"),
      eosTokenId: optionalNumber(fields.eos_token_id, where, "eos_token_id"),
    },
    where,
  );
}

/** Of a model with a configuration of {@link fromGptNeoxConfig}. */
export function gptNeoxLayout(model: StackModel): CheckpointLayout {
  const { layers } = model.config;
  const isParallel = layers[0].length === 2;
  const attention = layers[0][0] as Extract<MixerConfig, { kind: "attention" }>;
  const parameters = model.namedParameters();
  const tensors = new Map<string, FileTensor>();
  const both = (name: string, module: string, pieces?: (columns: number, parameter: string) => Piece[]): void => {
    for (const part of ["weight", "bias"]) {
      const parameter = `${module}.${part}`;
      const source = parameters.get(parameter);
      if (!source) continue;
      const { shape, isPackable } = source;
      tensors.set(
        `${name}.${part}`,
        pieces ? { shape, isPackable, pieces: pieces(shape[1] ?? 1, parameter) } : wholeTensor(parameter, source),
      );
    }
  };
  both("gpt_neox.embed_in", "embeddings");
  for (let i = 0; i < layers.length / (isParallel ? 1 : 2); i++) {
    const [attend, feed] = isParallel
      ? [`layers.${i}.0`, `layers.${i}.1`]
      : [`layers.${2 * i}.0`, `layers.${2 * i + 1}.0`];
    const to = `gpt_neox.layers.${i}`;
    both(`${to}.input_layernorm`, `${attend}.norm`);
    both(`${to}.post_attention_layernorm`, `${feed}.norm`);
    both(`${to}.attention.query_key_value`, `${attend}.mixer.qkv_proj`, (columns, parameter) =>
      headsTogether(attention.nHeads, attention.headDim * columns, parameter),
    );
    both(`${to}.attention.dense`, `${attend}.mixer.out_proj`);
    both(`${to}.mlp.dense_h_to_4h`, `${feed}.mixer.up`);
    both(`${to}.mlp.dense_4h_to_h`, `${feed}.mixer.down`);
  }
  both("gpt_neox.final_layer_norm", "norm_f");
  both("embed_out", "lm_head");
  return {
    tensors,
    canonicalName: (name) => (name === "lm_head.weight" ? "embed_out.weight" : name),
    isIgnored: (name) =>
      name === "embed_out.weight" || /\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/.test(name),
    configFiles: (dtype) => ({
      "generation_config.json": jsonText(generationConfig(model.config.eosTokenId)),
      "config.json": jsonText({ ...toGptNeoxConfig(model.config), torch_dtype: CONFIG_NAMES[dtype] }),
    }),
  };
}

/** The file has q, k, v of one head behind each other; here all q come first, then all k, then all v. */
function headsTogether(nHeads: number, count: number, parameter: string): Piece[] {
  return Array.from({ length: 3 * nHeads }, (_, i) => {
    const [head, which] = [Math.floor(i / 3), i % 3];
    return { parameter, start: (which * nHeads + head) * count, fileStart: i * count, count };
  });
}

function toGptNeoxConfig({ layers, ...config }: StackConfig): Record<string, unknown> {
  const isParallel = layers[0].length === 2;
  const attention = layers[0][0] as Extract<MixerConfig, { kind: "attention" }>;
  const mlp = (isParallel ? layers[0][1] : layers[1][0]) as Extract<MixerConfig, { kind: "mlp" }>;
  return {
    architectures: ["GPTNeoXForCausalLM"],
    model_type: "gpt_neox",
    hidden_size: config.dModel,
    num_hidden_layers: layers.length / (isParallel ? 1 : 2),
    num_attention_heads: attention.nHeads,
    intermediate_size: mlp.dInner,
    vocab_size: config.vocabSize,
    rotary_pct: attention.rotaryDim / attention.headDim,
    rotary_emb_base: attention.ropeBase,
    layer_norm_eps: config.normEps,
    hidden_act: mlp.activation === "gelu" ? "gelu" : "gelu_new",
    attention_bias: attention.useBias,
    use_parallel_residual: isParallel,
    tie_word_embeddings: config.tieEmbeddings,
    ...generationConfig(config.eosTokenId),
  };
}
