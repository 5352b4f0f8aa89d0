// Checkpoints of Mamba-1: loads the Hugging Face and the state-spaces layouts, writes the Hugging Face layout.
// Names are translated here and nowhere else.
// Source: transformers' models/mamba/modeling_mamba.py; state-spaces/mamba, models/mixer_seq_simple.py.
import type { FileSource } from "../../io/index.ts";
import type { CheckpointLayout } from "../checkpoint/layout.ts";
import { CONFIG_NAMES, generationConfig, jsonText, wholeTensor } from "../checkpoint/layout.ts";
import type { LoadOptions } from "../checkpoint/load.ts";
import { checkTrainable, loadWeights } from "../checkpoint/load.ts";
import type { Converted, ConvertOptions, SaveOptions } from "../checkpoint/save.ts";
import { copyCheckpoint, saveWeights } from "../checkpoint/save.ts";
import type { MambaConfig } from "./config.ts";
import { parseMambaConfig, toHuggingFaceConfig } from "./config.ts";
import { MambaModel } from "./model.ts";

/** Reads config.json of a checkpoint, in either dialect. Throws ConfigError, CheckpointError. */
export async function loadMambaConfig(source: FileSource): Promise<MambaConfig> {
  return parseMambaConfig(await source.readText("config.json"), `${source.description}: config.json`);
}

/**
 * How a Mamba-1 lies in a file. state-spaces says `embedding` where transformers says `embeddings`, and stores a tied head
 * beside the embedding; conv1d.weight is `[dInner, 1, dConv]` (PyTorch's grouped convolution), `[dInner, dConv]` here.
 */
export function mambaLayout(model: MambaModel): CheckpointLayout {
  const tensors = [...model.namedParameters()].map(([name, parameter]) => {
    const { shape } = parameter;
    const isConv = name.endsWith("conv1d.weight");
    return [name, wholeTensor(name, parameter, isConv ? [shape[0], 1, shape[1]] : shape)] as const;
  });
  return {
    tensors: new Map(tensors),
    canonicalName: (name) => name.replace(/^backbone\.embedding\./, "backbone.embeddings."),
    isIgnored: (name) => name === "lm_head.weight",
    configFiles: (dtype) => ({
      "generation_config.json": jsonText(generationConfig(model.config.eosTokenId)),
      "config.json": jsonText(toHuggingFaceConfig(model.config, CONFIG_NAMES[dtype])),
    }),
  };
}

/**
 * Loads a checkpoint's configuration and weights onto a device.
 * @throws ConfigError, CheckpointError (missing, extra, misshapen tensors, NaN), BackendError (not enough memory),
 * DTypeError or BackendError (f16 on a device that has none)
 */
export async function loadMamba(source: FileSource, options: LoadOptions): Promise<MambaModel> {
  checkTrainable(options);
  const model = new MambaModel(await loadMambaConfig(source));
  try {
    await loadWeights(model, mambaLayout(model), source, options);
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Loads the weights of a checkpoint into a model that exists, in place of its own (resuming a training run). */
export async function loadMambaWeights(model: MambaModel, source: FileSource): Promise<void> {
  await loadWeights(model, mambaLayout(model), source, { backend: model.backend, trainable: true });
}

/** Writes a folder that Hugging Face transformers loads; see {@link saveWeights}. */
export async function saveMamba(model: MambaModel, folder: string, options: SaveOptions = {}): Promise<void> {
  await saveWeights(model, mambaLayout(model), folder, options);
}

/** Copies a checkpoint into a folder that Hugging Face transformers loads, without a device; see {@link copyCheckpoint}. */
export async function convertMamba(
  source: FileSource,
  folder: string,
  options: ConvertOptions = {},
): Promise<Converted> {
  return copyCheckpoint(source, mambaLayout(new MambaModel(await loadMambaConfig(source))), folder, options);
}
