// Options that several commands share, and how their values are checked. A wrong value is a UsageError that names the option.
import { Option } from "commander";
import type { Device } from "../backends/index.ts";
import { DEVICES } from "../backends/index.ts";
import { UsageError } from "../core/errors.ts";
import type { WeightDType } from "../models/checkpoint/load.ts";

export interface NumberRule {
  readonly least?: number;
  readonly most?: number;
  /** Whether `least` itself is excluded. */
  readonly isAbove?: boolean;
  readonly isWhole?: boolean;
}

/** An option that takes a number. `flags` as commander has them, for example `--max-tokens <n>`. */
export function numberOption(flags: string, description: string, rule: NumberRule = {}): Option {
  const option = new Option(flags, description);
  return option.argParser((text: string) => parseNumber(text, option.long ?? flags, rule));
}

/** An option that takes a whole number, from 0 on unless the rule says otherwise. */
export function wholeOption(flags: string, description: string, rule: NumberRule = {}): Option {
  return numberOption(flags, description, { least: 0, most: Number.MAX_SAFE_INTEGER, ...rule, isWhole: true });
}

/** A number from text. `name` is the option's, for the message. */
export function parseNumber(text: string, name: string, rule: NumberRule): number {
  const value = /^\s*$/.test(text) ? Number.NaN : Number(text);
  if (fitsRule(value, rule)) return value;
  throw new UsageError(`${name} must be ${describeRule(rule)}, got "${text}".`);
}

export function fitsRule(value: number, { least, most, isAbove, isWhole }: NumberRule): boolean {
  if (!Number.isFinite(value) || (isWhole && !Number.isSafeInteger(value))) return false;
  if (least !== undefined && (isAbove ? value <= least : value < least)) return false;
  return most === undefined || value <= most;
}

/** "a whole number from 1 to 64". */
export function describeRule({ least, most, isAbove, isWhole }: NumberRule): string {
  const kind = isWhole ? "a whole number" : "a number";
  const hasMost = most !== undefined && most < Number.MAX_SAFE_INTEGER;
  if (least === undefined || least <= Number.MIN_SAFE_INTEGER) return hasMost ? `${kind} up to ${most}` : kind;
  const from = isAbove ? `above ${least}` : `from ${least}`;
  if (!hasMost) return isAbove ? `${kind} ${from}` : `${kind} ${from} on`;
  return isAbove ? `${kind} ${from} and at most ${most}` : `${kind} ${from} to ${most}`;
}

/** Adds one value of an option that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

export const MODEL_HELP =
  "a folder, a name on the Hugging Face hub such as state-spaces/mamba-130m-hf, or a URL (default: the small model that comes with this package)";

export const modelOption = (): Option => new Option("--model <model>", MODEL_HELP);

export const DEVICE_HELP =
  "where to compute; auto takes a real GPU if there is one, else wasm, the processor; webgpu takes an emulated one too";

export const THREADS_HELP = "threads of the wasm device (default: the cores of this machine, 8 at the most)";

export const deviceOption = (): Option => new Option("--device <device>", DEVICE_HELP).choices(DEVICES).default("auto");

export const threadsOption = (): Option => wholeOption("--threads <n>", THREADS_HELP, { least: 1, most: 64 });

export const dtypeOption = (): Option =>
  new Option(
    "--dtype <dtype>",
    "how weights lie in memory; f16 (webgpu only) and int8 are smaller, faster and a little less exact",
  )
    .choices(["f32", "f16", "int8"])
    .default("f32");

export const jsonOption = (): Option => new Option("--json", "print the result as JSON, and nothing else, on stdout");

export interface DeviceFlags {
  device: Device;
  threads?: number;
}

export interface LoadFlags extends DeviceFlags {
  model?: string;
  dtype: WeightDType;
}

/** The fields of an object that are not undefined, as exactOptionalPropertyTypes wants them. */
export function defined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
