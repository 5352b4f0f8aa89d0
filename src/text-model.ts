// TextModel: a language model of any architecture with its tokenizer on a device, ready to use. The architectures beside
// Mamba are loaded when they are asked for, so that a page with a Mamba holds no Transformer.
import type { Backend } from "./backends/backend.ts";
import type { Device } from "./backends/index.ts";
import { openDevice } from "./backends/index.ts";
import { DataError } from "./core/errors.ts";
import { createRandom } from "./core/random.ts";
import { checkNode } from "./core/node-only.ts";
import type { GeneratedToken, GenerateOptions, GenerationResult } from "./generate/generate.ts";
import { complete, generate } from "./generate/generate.ts";
import { memoryFile } from "./io/file-source.ts";
import type { DownloadProgress, FileSource } from "./io/index.ts";
import { encodeSafetensors, openSafetensors, openSource, savedArrays } from "./io/index.ts";
import type { ArchitectureOptions } from "./models/architectures.ts";
import type { AnyModel } from "./models/auto.ts";
import type { LoadOptions, WeightDType } from "./models/checkpoint/load.ts";
import type { SaveOptions } from "./models/checkpoint/save.ts";
import type { ForwardResult, LanguageModel, ModelState } from "./nn/language-model.ts";
import type { Module } from "./nn/module.ts";
import { keep } from "./tensor/scope.ts";
import type { Tensor } from "./tensor/tensor.ts";
import { tensorFrom } from "./tensor/tensor.ts";
import { createByteTokenizer } from "./tokenizers/bytes.ts";
import { loadTokenizer } from "./tokenizers/load.ts";
import type { Tokenizer } from "./tokenizers/tokenizer.ts";
import type { EvaluateOptions, Evaluation } from "./train/evaluate.ts";
import { evaluate } from "./train/evaluate.ts";

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

/** What a {@link TextModel} is made of. */
export interface TextModelParts<Model> {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  readonly dtype: WeightDType;
}

/**
 * A language model, its tokenizer and its device. Make one with `loadTextModel` or `createTextModel`; give its
 * memory back with {@link TextModel.dispose} or `using`.
 */
export class TextModel<
  State extends ModelState = ModelState,
  Model extends LanguageModel<State> & Module = LanguageModel<State> & Module,
> {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly backend: Backend;
  readonly dtype: WeightDType;

  constructor({ model, tokenizer, backend, dtype }: TextModelParts<Model>) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.backend = backend;
    this.dtype = dtype;
  }

  get config(): Model["config"] {
    return this.model.config;
  }

  /**
   * Continues a prompt, token by token: `for await (const { text } of model.generate("Once")) process.stdout.write(text)`.
   * Its return value is the {@link GenerationResult}. Stops after maxTokens (256), at a stop text, or at the end of text.
   */
  async *generate(
    prompt: string | ArrayLike<number>,
    options: GenerateOptions<State> = {},
  ): AsyncGenerator<GeneratedToken, GenerationResult> {
    const [result] = yield* generate(this.model, this.tokenizer, [prompt], options);
    return result;
  }

  /** Continues a prompt and returns the whole result. */
  async complete(prompt: string | ArrayLike<number>, options: GenerateOptions<State> = {}): Promise<GenerationResult> {
    const [result] = await complete(this.model, this.tokenizer, [prompt], options);
    return result;
  }

  /** Continues several prompts of any lengths together; each result equals what the prompt would give alone. */
  completeBatch(
    prompts: readonly (string | ArrayLike<number>)[],
    options: GenerateOptions<State> = {},
  ): Promise<GenerationResult[]> {
    return complete(this.model, this.tokenizer, prompts, options);
  }

  /** The state before the first token. Dispose of it when done. */
  initialState(batch = 1): State {
    return this.model.initialState(batch);
  }

  /**
   * Logits `[batch, length, vocabSize]` for the token after each given one, and the state after the last.
   * The tensors are yours to dispose. A given state stays as it is.
   */
  forward(tokens: TokenIds, state?: State): ForwardResult<State> {
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
  async step(tokens: number | ArrayLike<number>, state: State): Promise<Float32Array> {
    const list = typeof tokens === "number" ? [tokens] : Array.from(tokens);
    const ids = tensorFrom(this.backend, list, [list.length, 1], "i32");
    try {
      const { logits } = this.model.forward(ids, state, { logits: "last", inPlace: true });
      const values = await logits.read();
      logits.dispose();
      return values;
    } finally {
      ids.dispose();
    }
  }

  /** A state as bytes (safetensors, float32), for a file or another machine. */
  async saveState(state: State): Promise<Uint8Array> {
    const arrays = await state.toArrays();
    return encodeSafetensors(
      arrays.map(({ name, shape, data }) => ({ name, dtype: "F32", shape, data: () => data })),
      { what: "mamba.ts state" },
    );
  }

  /** A state from {@link saveState}'s bytes. `where`, any text, names them in errors. Throws CheckpointError. */
  async loadState(bytes: Uint8Array, where = "state"): Promise<State> {
    return this.model.stateFrom(savedArrays(await openSafetensors(memoryFile(where, bytes))), where);
  }

  /** How well the model predicts a text. See {@link EvaluateOptions}. */
  evaluate(text: string, options: Omit<EvaluateOptions, "bytes"> = {}): Promise<Evaluation> {
    const bytes = new TextEncoder().encode(text).length;
    return evaluate(this.model, this.tokenizer.encode(text), { ...options, bytes });
  }

  /** Writes a folder that this library loads, and Hugging Face transformers if it knows the architecture. Node only. */
  async save(folder: string, options: Pick<SaveOptions, "dtype"> = {}): Promise<void> {
    const { saveModel } = await import("./models/auto.ts");
    return saveModel(this.#known, folder, { ...options, files: this.tokenizer.files() });
  }

  /** Loads the weights of a folder of the same architecture and sizes, in place of its own. */
  async loadWeights(folder: string): Promise<void> {
    const { loadModelWeights } = await import("./models/auto.ts");
    await loadModelWeights(this.#known, await openSource(folder));
  }

  /** Gives the memory of the weights back. The device stays open for others. */
  dispose(): void {
    this.model.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The model is one of those that this library makes. All of them are loaded where files are written, not before. */
  get #known(): AnyModel {
    return this.model as unknown as AnyModel;
  }

  #tensorOf(tokens: TokenIds): Tensor {
    const rows =
      typeof tokens[0] === "number" || tokens.length === 0
        ? [tokens as ArrayLike<number>]
        : (tokens as readonly ArrayLike<number>[]);
    const { length } = rows[0];
    if (length === 0) throw new DataError("forward: no tokens were given.");
    if (rows.some((row) => row.length !== length))
      throw new DataError(
        `forward: all sequences must have one length, got ${rows.map((row) => row.length).join(", ")}.`,
      );
    const ids = new Int32Array(rows.length * length);
    rows.forEach((row, i) => ids.set(Array.from(row), i * length));
    return keep(tensorFrom(this.backend, ids, [rows.length, length], "i32"));
  }
}

/** How a checkpoint's weights come onto a device, and what is read of its configuration before. */
export interface ModelLoader<Model> {
  readonly load: (source: FileSource, options: LoadOptions) => Promise<Model>;
  readonly loadConfig: (source: FileSource) => Promise<{ readonly vocabSize: number }>;
}

/**
 * Loads a checkpoint of any architecture that this library knows (Mamba, Llama, GPT-NeoX, its own baselines): a folder, a
 * name on the Hugging Face hub such as "state-spaces/mamba-130m-hf", an opened source, or, without a name, the small
 * byte-level Mamba that comes with this package.
 * @throws CheckpointError, ConfigError (damaged or unfit files), BackendError (device missing, memory full)
 */
export async function loadTextModel(
  nameOrFolder?: string | FileSource,
  options: LoadModelOptions = {},
): Promise<TextModel> {
  const { loadConfig, loadModel } = await import("./models/auto.ts");
  return new TextModel(await loadParts(nameOrFolder, options, { load: loadModel, loadConfig }));
}

/** A new model of an architecture (see ARCHITECTURES), initialised, to be trained. Bytes unless a tokenizer is given. */
export async function createTextModel(
  architecture: string,
  sizes: Omit<ArchitectureOptions, "vocabSize"> & { vocabSize?: number },
  options: CreateModelOptions = {},
): Promise<TextModel> {
  const { createModel } = await import("./models/architectures.ts");
  const { backend, tokenizer, vocabulary } = await openParts(options);
  const random = createRandom(options.seed ?? 0);
  const model = createModel(architecture, { ...vocabulary, ...sizes }, backend, random);
  return new TextModel({ model, tokenizer, backend, dtype: "f32" });
}

/** The parts of a model that is loaded. */
export async function loadParts<Model>(
  nameOrFolder: string | FileSource | undefined,
  options: LoadModelOptions,
  { load, loadConfig }: ModelLoader<Model>,
): Promise<TextModelParts<Model>> {
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
  const tokenizer = await openTokenizer(source, (await loadConfig(source)).vocabSize);
  const loading = { backend, dtype, trainable: options.trainable ?? false };
  const model = await load(source, options.onProgress ? { ...loading, onProgress: options.onProgress } : loading);
  return { model, tokenizer, backend, dtype };
}

/** What a new model begins with: device, tokenizer, and what its configuration says of the vocabulary. */
export async function openParts(options: CreateModelOptions): Promise<{
  backend: Backend;
  tokenizer: Tokenizer;
  vocabulary: { vocabSize: number; eosTokenId?: number };
}> {
  const backend = await openDevice(options.device, threadOptions(options));
  const tokenizer = options.tokenizer ?? createByteTokenizer();
  const eos = tokenizer.endOfText === undefined ? {} : { eosTokenId: tokenizer.endOfText };
  return { backend, tokenizer, vocabulary: { vocabSize: Math.ceil(tokenizer.vocabSize / 8) * 8, ...eos } };
}

function threadOptions({ threads }: DeviceOptions): { threads?: number } {
  return threads === undefined ? {} : { threads };
}

/** The model in this package's assets. */
async function defaultModelFolder(): Promise<string> {
  checkNode("Loading a model without a name", "In a browser give the URL of a checkpoint's folder.");
  return (await import("./default-model-node.ts")).defaultModelFolder();
}

async function openTokenizer(source: FileSource, vocabSize: number): Promise<Tokenizer> {
  const read = async (name: string): Promise<string | undefined> =>
    (await source.has(name)) ? source.readText(name) : undefined;
  const tokenizer = await loadTokenizer(read, vocabSize);
  if (tokenizer) return tokenizer;
  throw new DataError(
    `${source.description}: there is no tokenizer.json, and a vocabulary of ${vocabSize} is not bytes. Put the model's tokenizer.json into the folder.`,
  );
}
