// Reads the texts, the tokenizer and the references of a comparison. Node only.
import { readFile } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";
import { DataError, UsageError } from "../core/errors.ts";
import { createTask, loadTextFiles, splitEvaluation } from "../data/index.ts";
import { listTextFiles } from "../data/text-node.ts";
import { messageOf } from "../io/text.ts";
import { createByteTokenizer } from "../tokenizers/bytes.ts";
import { createTokenizer } from "../tokenizers/hugging-face.ts";
import type { Tokenizer } from "../tokenizers/tokenizer.ts";
import type { CompareData, HeldOutText } from "./data.ts";
import { taskData, textData } from "./data.ts";
import type { CompareSettings } from "./options.ts";

/** Default share of every text that is held out. */
const HELD_OUT = 0.05;

/** The data that settings name. Throws UsageError, ConfigError, DataError. */
export async function readData(settings: CompareSettings): Promise<CompareData> {
  const { data, task, taskOptions, length } = settings;
  if ((data === undefined) === (task === undefined))
    throw new UsageError(
      `compare: needs either texts (data) or a task, got ${data === undefined ? "neither" : "both"}. Name text files, a folder of them, or a task such as selective-copying.`,
    );
  if (task === undefined) return readTexts(settings, data!);
  const made = createTask(task, taskOptions);
  return taskData(made, length ?? made.defaultLength);
}

async function readTexts(settings: CompareSettings, paths: readonly string[]): Promise<CompareData> {
  const { separator, heldOut: others, evalFraction = HELD_OUT } = settings;
  const tokenizer = await readTokenizer(settings.tokenizer ?? "bytes");
  const read = { separator };
  const all = await loadTextFiles(paths, tokenizer, read);
  const names = paths.map((path) => nameOf(path));
  if (others?.length) {
    const files = await listTextFiles(others);
    const heldOut: HeldOutText[] = [];
    for (const [i, name] of uniqueNames(files).entries())
      heldOut.push({ name, data: await loadTextFiles([files[i]], tokenizer, read) });
    return textData({ tokenizer, train: all, heldOut, names });
  }
  const { train, evaluation } = splitEvaluation(all, evalFraction);
  const name = names.length === 1 ? names[0] : "held-out texts";
  return textData({ tokenizer, train, heldOut: [{ name, data: evaluation }], names });
}

/** Names without folder and ending, as long as they differ. */
function uniqueNames(files: readonly string[]): string[] {
  const short = files.map(nameOf);
  return new Set(short).size === files.length ? short : [...files];
}

function nameOf(path: string): string {
  const name = basename(path);
  return name.slice(0, name.length - extname(name).length) || name;
}

async function readTokenizer(path: string): Promise<Tokenizer> {
  if (path === "bytes") return createByteTokenizer();
  const json = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new DataError(`${path}: the tokenizer cannot be read: ${messageOf(cause)}. Give a tokenizer.json.`, {
      cause,
    });
  });
  const config = await readFile(join(dirname(path), "tokenizer_config.json"), "utf8").catch(() => undefined);
  return createTokenizer(json, config, path);
}
