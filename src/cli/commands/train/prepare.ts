// What a training run begins with: the model, its data, and the text that is held out.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { BatchPosition, BatchSource, TokenData } from "../../../data/index.ts";
import { loadTextFiles, randomWindows, splitEvaluation, streams } from "../../../data/index.ts";
import { createTokenizer } from "../../../tokenizers/hugging-face.ts";
import type { Tokenizer } from "../../../tokenizers/tokenizer.ts";
import type { EvaluationData } from "../../../train/index.ts";
import type { TextModel } from "../../../text-model.ts";
import { createTextModel } from "../../../text-model.ts";
import { noteThreads } from "../../device.ts";
import { readText } from "../../files.ts";
import { loadModel } from "../../load-model.ts";
import { defined } from "../../options.ts";
import type { TrainSettings } from "./settings.ts";

/** The model to train: that of the run which is resumed, one to fine-tune, or a new one. */
export async function prepareModel(settings: TrainSettings): Promise<TextModel> {
  const { device = "auto", threads, seed = 0 } = settings;
  const at = defined({ device, threads });
  const existing = settings.resume ? join(settings.out!, "last") : settings.model;
  if (existing !== undefined) {
    const { mamba } = await loadModel({ ...at, model: existing, dtype: "f32" }, { trainable: true });
    return mamba;
  }
  const { arch = "mamba", dModel = 128, layers = 4, tokenizer = "bytes", untied = false } = settings;
  const {
    dState,
    dConv,
    expand,
    dtRank,
    headDim,
    kvHeads: nKvHeads,
    dMlp,
    dHidden,
    experts: nExperts,
    topK,
  } = settings;
  const sizes = defined({ dState, dConv, expand, dtRank, headDim, nKvHeads, dMlp, dHidden, nExperts, topK });
  const chosen = tokenizer === "bytes" ? {} : { tokenizer: await readTokenizer(tokenizer) };
  const config = { dModel, nLayer: layers, tieEmbeddings: !untied, ...sizes };
  const mamba = await createTextModel(arch, config, { ...at, ...chosen, seed });
  noteThreads(mamba.backend, settings);
  return mamba;
}

/** A tokenizer.json, with the tokenizer_config.json beside it if there is one. */
async function readTokenizer(path: string): Promise<Tokenizer> {
  const json = await readText(path, "--tokenizer");
  const config = await readFile(join(dirname(path), "tokenizer_config.json"), "utf8").catch(() => undefined);
  return createTokenizer(json, config, path);
}

export interface PreparedData {
  /** Where batches come from, from the beginning or a saved position. */
  open(position?: BatchPosition): BatchSource;
  readonly evaluation: EvaluationData | undefined;
  readonly trainTokens: number;
}

/** Reads the texts, tokenises them, and holds a part out. */
export async function prepareData(settings: TrainSettings, tokenizer: Tokenizer): Promise<PreparedData> {
  const { batch = 8, length = 256, seed = 0, evalFraction = 0.05, carryState = false } = settings;
  const how = defined({ separator: settings.separator });
  const all = await loadTextFiles(settings.data!, tokenizer, how);
  let data: TokenData = all;
  let held: TokenData | undefined;
  if (settings.evalData) held = await loadTextFiles(settings.evalData, tokenizer, how);
  else if (evalFraction > 0) ({ train: data, evaluation: held } = splitEvaluation(all, evalFraction));
  return {
    open: (position) =>
      carryState ? streams(data, { batch, length, position }) : randomWindows(data, { batch, length, seed, position }),
    // A window has as much to go by as a sequence in training.
    evaluation: held && {
      tokens: held.tokens,
      bytes: held.bytes,
      window: carryState ? undefined : Math.min(length + 1, held.tokens.length),
    },
    trainTokens: data.tokens.length,
  };
}
