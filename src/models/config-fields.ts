// Fields of a config.json, read with errors that name the file, the field and the rule.
import { ConfigError } from "../core/errors.ts";

/** The fields of a config.json. */
export type ConfigFields = Readonly<Record<string, unknown>>;

/** Parses a config.json. `where` names the file in errors. */
export function parseConfigFields(json: string, where: string): ConfigFields {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw new ConfigError(`${where}: not valid JSON (${(cause as Error).message}). Fetch the file again.`, { cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new ConfigError(`${where}: must hold a JSON object, as config.json of a checkpoint does.`);
  return parsed as ConfigFields;
}

export function number(value: unknown, where: string, field: string): number {
  if (typeof value === "number") return value;
  throw new ConfigError(`${where}: ${field} must be a number, got ${JSON.stringify(value)}.`);
}

export function optionalNumber(value: unknown, where: string, field: string): number | undefined {
  return value === undefined || value === null ? undefined : number(value, where, field);
}

export function flag(value: unknown, where: string, field: string): boolean {
  if (typeof value === "boolean") return value;
  throw new ConfigError(`${where}: ${field} must be true or false, got ${JSON.stringify(value)}.`);
}

/** Throws ConfigError for a value that is none of those that this library knows. */
export function expectOneOf<T>(value: unknown, choices: readonly T[], where: string, field: string): T {
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw new ConfigError(
    `${where}: ${field} must be ${choices.map((choice) => JSON.stringify(choice)).join(" or ")}, got ${JSON.stringify(value)}.`,
  );
}

/** Without the fields that are undefined. */
export function defined<T extends object>(fields: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
