// Settings from flags, from a JSON file, and from the run that is resumed; the first that has one decides.
import { Option } from "commander";
import { ConfigError, UsageError } from "../../../core/errors.ts";
import { readRunState } from "../../../train/run-folder-node.ts";
import { closestName } from "../../closest.ts";
import { readText } from "../../files.ts";
import { describeRule, fitsRule, numberOption } from "../../options.ts";
import type { Setting, SettingName, TrainSettings } from "./settings.ts";
import { DEFAULT_STEPS, SETTINGS } from "./settings.ts";

/** Settings of where and how to run, not of what: a run does not remember them. */
const NOT_REMEMBERED: ReadonlySet<string> = new Set(["out", "resume", "device", "threads"]);

/** Settings of a new model. */
const SIZES = [
  ...(["arch", "dModel", "layers", "dState", "dConv", "expand", "dtRank", "headDim", "kvHeads", "dMlp"] as const),
  ...(["dHidden", "experts", "topK", "tokenizer", "untied"] as const),
];

/** A flag for every setting: `dModel` is --d-model. */
export function settingOptions(): Option[] {
  return Object.entries(SETTINGS).map(([name, setting]) => {
    const long = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    if (setting.kind === "flag") return new Option(long, setting.help);
    if (setting.kind === "list") return new Option(`${long} <${setting.value}...>`, setting.help);
    if (setting.kind === "number") return numberOption(`${long} <${setting.value}>`, setting.help, setting.rule);
    const option = new Option(`${long} <${setting.value}>`, setting.help);
    return setting.choices ? option.choices(setting.choices) : option;
  });
}

/**
 * All settings that were given: by flags, else by the JSON file, else (resuming) by the run itself.
 * @throws ConfigError (the JSON file), UsageError (something is missing or contradictory), DataError (a file is missing)
 */
export async function readSettings(flags: TrainSettings, configFile: string | undefined): Promise<TrainSettings> {
  const given = {
    ...(configFile === undefined ? {} : parseSettings(await readText(configFile, "--config"), configFile)),
    ...flags,
  };
  if (given.out === undefined) throw new UsageError("train needs --out, the folder of the run.");
  const remembered = given.resume
    ? parseSettings(JSON.stringify((await readRunState(given.out)).settings), `${given.out}: settings of the run`)
    : {};
  const settings = { ...remembered, ...given };
  if (!settings.data?.length) throw new UsageError("train needs --data: text files, or folders of them.");
  const sizes = SIZES.filter((name) => settings[name] !== undefined);
  if (settings.model !== undefined && sizes.length > 0)
    throw new UsageError(
      `train: ${sizes[0]} cannot be chosen for a model that exists. Leave it out to fine-tune ${settings.model}, or leave out the model.`,
    );
  // Decided once: a run that is resumed for more steps keeps its warm-up.
  return { ...settings, warmup: settings.warmup ?? defaultWarmup(settings.steps) };
}

/** A tenth of the steps, 100 at the most. */
function defaultWarmup(steps = DEFAULT_STEPS): number {
  return Math.min(100, Math.floor(steps / 10));
}

/** What a run remembers of its settings, to be resumed with and compared. */
export function rememberedSettings(settings: TrainSettings): Record<string, unknown> {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !NOT_REMEMBERED.has(name)));
}

/** Settings from JSON, every key and value checked. `where` names the file. Throws ConfigError. */
export function parseSettings(json: string, where: string): TrainSettings {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw new ConfigError(`${where}: is not JSON: ${(cause as Error).message}.`, { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new ConfigError(`${where}: must hold one JSON object, such as {"data": ["book.txt"], "steps": 1000}.`);
  const names = Object.keys(SETTINGS);
  for (const [name, value] of Object.entries(parsed)) {
    if (!names.includes(name)) {
      const near = closestName(name, names);
      throw new ConfigError(
        `${where}: there is no setting ${JSON.stringify(name)}. ${near ? `Did you mean "${near}"?` : `There are ${names.join(", ")}.`}`,
      );
    }
    const rule = brokenRule(SETTINGS[name as SettingName], value);
    if (rule) throw new ConfigError(`${where}: ${name} must be ${rule}, got ${JSON.stringify(value).slice(0, 80)}.`);
  }
  return parsed;
}

/** What a value should have been, if it is not. */
function brokenRule(setting: Setting, value: unknown): string | undefined {
  const [isGood, rule] = checkValue(setting, value);
  return isGood ? undefined : rule;
}

function checkValue(setting: Setting, value: unknown): [isGood: boolean, rule: string] {
  if (setting.kind === "number")
    return [typeof value === "number" && fitsRule(value, setting.rule), describeRule(setting.rule)];
  if (setting.kind === "flag") return [typeof value === "boolean", "true or false"];
  if (setting.kind === "list") {
    const isList = Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === "string");
    return [isList, "a list of paths"];
  }
  if (!setting.choices) return [typeof value === "string", "a text"];
  return [setting.choices.some((choice) => choice === value), `one of ${setting.choices.join(", ")}`];
}
