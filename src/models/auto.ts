// Any model from its checkpoint, by what its config.json says; and back.
import type { FileSource } from "../io/index.ts";
import type { CheckpointLayout } from "./checkpoint/layout.ts";
import type { LoadOptions } from "./checkpoint/load.ts";
import { checkTrainable, loadWeights } from "./checkpoint/load.ts";
import type { Converted, ConvertOptions, SaveOptions } from "./checkpoint/save.ts";
import { copyCheckpoint, saveWeights } from "./checkpoint/save.ts";
import { parseConfigFields } from "./config-fields.ts";
import { mambaLayout } from "./mamba/checkpoint.ts";
import type { MambaConfig } from "./mamba/config.ts";
import { parseMambaConfig } from "./mamba/config.ts";
import { MambaModel } from "./mamba/model.ts";
import { parseStackConfig, stackLayout } from "./stack/checkpoint.ts";
import type { StackConfig } from "./stack/config.ts";
import { StackModel } from "./stack/model.ts";

/** Every model that this library has. */
export type AnyModel = MambaModel | StackModel;

/** A configuration of any of them. */
export type AnyConfig = MambaConfig | StackConfig;

/** Reads config.json. Throws ConfigError, CheckpointError. */
export async function loadConfig(source: FileSource): Promise<AnyConfig> {
  const json = await source.readText("config.json");
  const where = `${source.description}: config.json`;
  const fields = parseConfigFields(json, where);
  // state-spaces' own config.json has no model_type.
  return (fields.model_type ?? "mamba") === "mamba" ? parseMambaConfig(json, where) : parseStackConfig(fields, where);
}

/** A model without weights. */
export function modelOf(config: AnyConfig): AnyModel {
  return "layers" in config ? new StackModel(config) : new MambaModel(config);
}

function layoutOf(model: AnyModel): CheckpointLayout {
  return model instanceof MambaModel ? mambaLayout(model) : stackLayout(model);
}

/**
 * Loads a checkpoint of any known family onto a device.
 * @throws ConfigError, CheckpointError (missing, extra, misshapen tensors, NaN), BackendError (not enough memory),
 * DTypeError or BackendError (f16 on a device that has none)
 */
export async function loadModel(source: FileSource, options: LoadOptions): Promise<AnyModel> {
  checkTrainable(options);
  const model = modelOf(await loadConfig(source));
  try {
    await loadWeights(model, layoutOf(model), source, options);
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Loads the weights of a checkpoint into a model that exists, in place of its own (resuming a training run). */
export async function loadModelWeights(model: AnyModel, source: FileSource): Promise<void> {
  await loadWeights(model, layoutOf(model), source, { backend: model.backend, trainable: true });
}

/** Writes a folder; a Mamba, a Transformer++ and a GPT-NeoX as Hugging Face transformers loads them. */
export async function saveModel(model: AnyModel, folder: string, options: SaveOptions = {}): Promise<void> {
  await saveWeights(model, layoutOf(model), folder, options);
}

/** Copies a checkpoint into a folder in the layout of {@link saveModel}, without a device; see {@link copyCheckpoint}. */
export async function convertModel(
  source: FileSource,
  folder: string,
  options: ConvertOptions = {},
): Promise<Converted> {
  return copyCheckpoint(source, layoutOf(modelOf(await loadConfig(source))), folder, options);
}
