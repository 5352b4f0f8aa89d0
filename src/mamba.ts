// Mamba: a model with its tokenizer on a device, ready to use. The class that most people need.
import type { Backend } from "./backends/backend.ts";
import type { Device } from "./backends/index.ts";
import { openDevice } from "./backends/index.ts";
import { createRandom } from "./core/random.ts";
import { DataError } from "./core/errors.ts";
import { checkNode } from "./core/node-only.ts";
import type { EvaluateOptions, Evaluation } from "./train/evaluate.ts";
import { evaluate } from "./train/evaluate.ts";
import type { GeneratedToken, GenerateOptions, GenerationResult } from "./generate/generate.ts";
import { complete, generate } from "./generate/generate.ts";
import type { DownloadProgress, FileSource } from "./io/index.ts";
import { memoryFile } from "./io/file-source.ts";
import { encodeSafetensors, openSafetensors, openSource, savedArrays } from "./io/index.ts";
import type { SaveOptions, WeightDType } from "./models/mamba/checkpoint.ts";
import { loadMamba, loadMambaConfig, saveMamba } from "./models/mamba/checkpoint.ts";
import type { MambaConfig, MambaOptions } from "./models/mamba/config.ts";
import { mambaConfig } from "./models/mamba/config.ts";
import { initializeMamba } from "./models/mamba/init.ts";
import { MambaModel } from "./models/mamba/model.ts";
import type { MambaState } from "./models/mamba/state.ts";
import type { ForwardResult } from "./nn/language-model.ts";
import { keep } from "./tensor/scope.ts";
import type { Tensor } from "./tensor/tensor.ts";
import { tensorFrom } from "./tensor/tensor.ts";
import { createByteTokenizer } from "./tokenizers/bytes.ts";
import { loadTokenizer } from "./tokenizers/load.ts";
import type { Tokenizer } from "./tokenizers/tokenizer.ts";

/** Where to compute. */
export interface DeviceOptions {
  /** auto (default: a real GPU if there is one, else wasm), webgpu, wasm or reference. */
  device?: Device;
  /** Threads of the wasm device; default: the cores of this machine, 8 at the most. */
  threads?: number;
}

/** How to load a checkpoint: onto which device, in which format, from which revision. */
export interface LoadModelOptions extends DeviceOptions {
  /**
   * f32 (default); int8: a quarter of the memory, about twice the speed of decoding; f16, on webgpu only: half the memory,
   * float16 activations. Neither of the two can be trained.
   */
  dtype?: WeightDType;
  /** Keep plain float32 weights, as training needs them. Default false. */
  trainable?: boolean;
  /** A branch, tag or commit on the hub. */
  revision?: string;
  /** Where downloads are kept; default: the hub's own cache folder. */
  cacheDir?: string;
  /** Another hub than the public one. */
  hubUrl?: string;
  /** Called while files download. */
  onDownload?: (progress: DownloadProgress) => void;
  /** Called while weights load, with the share that is loaded. */
  onProgress?: (share: number) => void;
}

/** How to make a new model: its device, tokenizer and seed. */
export interface CreateModelOptions extends DeviceOptions {
  /** Default: bytes. */
  tokenizer?: Tokenizer;
  /** Default 0. */
  seed?: number;
}

/** Token ids of one sequence, or of several of one length. */
export type TokenIds = ArrayLike<number> | readonly ArrayLike<number>[];

/**
 * A Mamba language model, its tokenizer and its device (Gu & Dao 2023, arXiv 2312.00752). Make one with {@link Mamba.load}
 * or {@link Mamba.create}; give its memory back with {@link Mamba.dispose} or `using`.
 */
export class Mamba {
  readonly model: MambaModel;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  readonly dtype: WeightDType;

  private constructor(model: MambaModel, tokenizer: Tokenizer, backend: Backend, dtype: WeightDType) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.backend = backend;
    this.dtype = dtype;
  }

  /**
   * Loads a checkpoint: a folder, a name on the Hugging Face hub such as "state-spaces/mamba-130m-hf", an opened source,
   * or, without a name, the small byte-level model that comes with this package.
   * @throws CheckpointError, ConfigError (damaged or unfit files), BackendError (device missing, memory full)
   */
  static async load(nameOrFolder?: string | FileSource, options: LoadModelOptions = {}): Promise<Mamba> {
    const backend = await openDevice(options.device, threadOptions(options));
    const { revision, cacheDir, hubUrl, onDownload: onProgress } = options;
    const sourceOptions = Object.fromEntries(
      Object.entries({ revision, cacheDir, hubUrl, onProgress }).filter(([, value]) => value !== undefined),
    );
    const source =
      typeof nameOrFolder === "object"
        ? nameOrFolder
        : await openSource(nameOrFolder ?? (await defaultModelFolder()), sourceOptions);
    const dtype = options.dtype ?? "f32";
    // The tokenizer first: what is wrong with it shows at once, and the garbage of parsing it is gone before the weights come.
    const tokenizer = await openTokenizer(source);
    const loading = { backend, dtype, trainable: options.trainable ?? false };
    const model = await loadMamba(
      source,
      options.onProgress ? { ...loading, onProgress: options.onProgress } : loading,
    );
    return new Mamba(model, tokenizer, backend, dtype);
  }

  /** A new model with the official initialisation, to be trained. Bytes unless a tokenizer is given. */
  static async create(
    config: Omit<MambaOptions, "vocabSize"> & { vocabSize?: number },
    options: CreateModelOptions = {},
  ): Promise<Mamba> {
    const backend = await openDevice(options.device, threadOptions(options));
    const tokenizer = options.tokenizer ?? createByteTokenizer();
    const eos = tokenizer.endOfText === undefined ? {} : { eosTokenId: tokenizer.endOfText };
    const model = new MambaModel(
      mambaConfig({ vocabSize: Math.ceil(tokenizer.vocabSize / 8) * 8, ...eos, ...config }, "Mamba.create"),
    );
    initializeMamba(model, backend, createRandom(options.seed ?? 0));
    return new Mamba(model, tokenizer, backend, "f32");
  }

  get config(): MambaConfig {
    return this.model.config;
  }

  /**
   * Continues a prompt, token by token: `for await (const { text } of mamba.generate("Once")) process.stdout.write(text)`.
   * Its return value is the {@link GenerationResult}. Stops after maxTokens (256), at a stop text, or at the end of text.
   */
  async *generate(
    prompt: string | ArrayLike<number>,
    options: GenerateOptions<MambaState> = {},
  ): AsyncGenerator<GeneratedToken, GenerationResult> {
    const [result] = yield* generate(this.model, this.tokenizer, [prompt], options);
    return result;
  }

  /** Continues a prompt and returns the whole result. */
  async complete(
    prompt: string | ArrayLike<number>,
    options: GenerateOptions<MambaState> = {},
  ): Promise<GenerationResult> {
    const [result] = await complete(this.model, this.tokenizer, [prompt], options);
    return result;
  }

  /** Continues several prompts of any lengths together; each result equals what the prompt would give alone. */
  completeBatch(
    prompts: readonly (string | ArrayLike<number>)[],
    options: GenerateOptions<MambaState> = {},
  ): Promise<GenerationResult[]> {
    return complete(this.model, this.tokenizer, prompts, options);
  }

  /** The state before the first token. Dispose of it when done. */
  initialState(batch = 1): MambaState {
    return this.model.initialState(batch);
  }

  /**
   * Logits `[batch, length, vocabSize]` for the token after each given one, and the state after the last.
   * The tensors are yours to dispose. A given state stays as it is.
   */
  forward(tokens: TokenIds, state?: MambaState): ForwardResult<MambaState> {
    const ids = this.#tensorOf(tokens);
    const before = state ?? this.model.initialState(ids.shape[0]);
    try {
      return this.model.forward(ids, before);
    } finally {
      ids.dispose();
      if (!state) before.dispose();
    }
  }

  /** One token more for each sequence of a state, which changes in place. Logits `[batch, vocabSize]` on the host. */
  async step(tokens: number | ArrayLike<number>, state: MambaState): Promise<Float32Array> {
    const list = typeof tokens === "number" ? [tokens] : Array.from(tokens);
    const ids = tensorFrom(this.backend, list, [list.length, 1], "i32");
    try {
      const logits = this.model.step(ids, state);
      const values = await logits.read();
      logits.dispose();
      return values;
    } finally {
      ids.dispose();
    }
  }

  /** A state as bytes (safetensors, float32), for a file or another machine. */
  async saveState(state: MambaState): Promise<Uint8Array> {
    const arrays = await state.toArrays();
    return encodeSafetensors(
      arrays.map(({ name, shape, data }) => ({ name, dtype: "F32", shape, data: () => data })),
      { what: "mamba.ts state" },
    );
  }

  /** A state from {@link saveState}'s bytes. `where`, any text, names them in errors. Throws CheckpointError. */
  async loadState(bytes: Uint8Array, where = "state"): Promise<MambaState> {
    return this.model.stateFrom(savedArrays(await openSafetensors(memoryFile(where, bytes))), where);
  }

  /** How well the model predicts a text. See {@link EvaluateOptions}. */
  evaluate(text: string, options: Omit<EvaluateOptions, "bytes"> = {}): Promise<Evaluation> {
    const bytes = new TextEncoder().encode(text).length;
    return evaluate(this.model, this.tokenizer.encode(text), { ...options, bytes });
  }

  /** Writes a folder that this library and Hugging Face transformers load. Node only. */
  save(folder: string, options: Pick<SaveOptions, "dtype"> = {}): Promise<void> {
    return saveMamba(this.model, folder, { ...options, files: this.tokenizer.files() });
  }

  /** Gives the memory of the weights back. The device stays open for others. */
  dispose(): void {
    this.model.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #tensorOf(tokens: TokenIds): Tensor {
    const rows =
      typeof tokens[0] === "number" || tokens.length === 0
        ? [tokens as ArrayLike<number>]
        : (tokens as readonly ArrayLike<number>[]);
    const { length } = rows[0];
    if (length === 0) throw new DataError("Mamba.forward: no tokens were given.");
    if (rows.some((row) => row.length !== length))
      throw new DataError(
        `Mamba.forward: all sequences must have one length, got ${rows.map((row) => row.length).join(", ")}.`,
      );
    const ids = new Int32Array(rows.length * length);
    rows.forEach((row, i) => ids.set(Array.from(row), i * length));
    return keep(tensorFrom(this.backend, ids, [rows.length, length], "i32"));
  }
}

function threadOptions({ threads }: DeviceOptions): { threads?: number } {
  return threads === undefined ? {} : { threads };
}

/** The model in this package's assets. */
async function defaultModelFolder(): Promise<string> {
  checkNode("Mamba.load without a name", "In a browser give the URL of a checkpoint's folder.");
  return (await import("./default-model-node.ts")).defaultModelFolder();
}

async function openTokenizer(source: FileSource): Promise<Tokenizer> {
  const { vocabSize } = await loadMambaConfig(source);
  const read = async (name: string): Promise<string | undefined> =>
    (await source.has(name)) ? source.readText(name) : undefined;
  const tokenizer = await loadTokenizer(read, vocabSize);
  if (tokenizer) return tokenizer;
  throw new DataError(
    `${source.description}: there is no tokenizer.json, and a vocabulary of ${vocabSize} is not bytes. Put the model's tokenizer.json into the folder.`,
  );
}
