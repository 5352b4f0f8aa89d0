// Mamba: a Mamba model with its tokenizer on a device, ready to use. The class that most people need.
import { createRandom } from "./core/random.ts";
import type { FileSource } from "./io/index.ts";
import { loadMamba, loadMambaConfig } from "./models/mamba/checkpoint.ts";
import type { MambaOptions } from "./models/mamba/config.ts";
import { mambaConfig } from "./models/mamba/config.ts";
import { initializeMamba } from "./models/mamba/init.ts";
import { MambaModel } from "./models/mamba/model.ts";
import type { MambaState } from "./models/mamba/state.ts";
import type { CreateModelOptions, LoadModelOptions } from "./text-model.ts";
import { loadParts, openParts, TextModel } from "./text-model.ts";

/**
 * A Mamba language model, its tokenizer and its device (Gu & Dao 2023, arXiv 2312.00752). Make one with {@link Mamba.load}
 * or {@link Mamba.create}; give its memory back with {@link Mamba.dispose} or `using`.
 */
export class Mamba extends TextModel<MambaState, MambaModel> {
  /**
   * Loads a checkpoint: a folder, a name on the Hugging Face hub such as "state-spaces/mamba-130m-hf", an opened source,
   * or, without a name, the small byte-level model that comes with this package.
   * @throws CheckpointError, ConfigError (damaged or unfit files), BackendError (device missing, memory full)
   */
  static async load(nameOrFolder?: string | FileSource, options: LoadModelOptions = {}): Promise<Mamba> {
    return new Mamba(await loadParts(nameOrFolder, options, { load: loadMamba, loadConfig: loadMambaConfig }));
  }

  /** A new model with the official initialisation, to be trained. Bytes unless a tokenizer is given. */
  static async create(
    config: Omit<MambaOptions, "vocabSize"> & { vocabSize?: number },
    options: CreateModelOptions = {},
  ): Promise<Mamba> {
    const { backend, tokenizer, vocabulary } = await openParts(options);
    const model = new MambaModel(mambaConfig({ ...vocabulary, ...config }, "Mamba.create"));
    initializeMamba(model, backend, createRandom(options.seed ?? 0));
    return new Mamba({ model, tokenizer, backend, dtype: "f32" });
  }
}
