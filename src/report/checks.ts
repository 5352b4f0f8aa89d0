// Small checks that make a typed value of parsed JSON, or say where it breaks which rule.
import { DataError } from "../core/errors.ts";

/** Returns the value if it keeps the rule; `path` says where in the file it stands. */
export type Check<T> = (value: unknown, path: string) => T;

/** Marks a field that may be left out. */
interface Optional<T> {
  readonly optional: Check<T>;
}

type OptionalKeys<T> = { [K in keyof T]-?: object extends Pick<T, K> ? K : never }[keyof T];

/** One check a field, and `optional` for those that may be missing: the compiler holds it equal to the type. */
type Fields<T> = {
  [K in keyof T]-?: K extends OptionalKeys<T> ? Optional<Exclude<T[K], undefined>> : Check<T[K]>;
};

export function optional<T>(check: Check<T>): Optional<T> {
  return { optional: check };
}

/** @throws DataError that names the place, the rule and what came. */
export function fail(path: string, rule: string, value: unknown, remedy = ""): never {
  throw new DataError(`${path}: must be ${rule}, got ${show(value)}.${remedy === "" ? "" : ` ${remedy}`}`);
}

export const text: Check<string> = (value, path) => (typeof value === "string" ? value : fail(path, "a text", value));

/** A finite number; JSON has no other, but null stands where one was written that was not finite. */
export const number: Check<number> = (value, path) =>
  typeof value === "number" && Number.isFinite(value) ? value : fail(path, "a finite number", value);

/** A finite number from 0. */
export const amount: Check<number> = (value, path) =>
  number(value, path) >= 0 ? (value as number) : fail(path, "a number from 0", value);

/** A finite number above 0. */
export const positive: Check<number> = (value, path) =>
  number(value, path) > 0 ? (value as number) : fail(path, "a number above 0", value);

/** 0 to 1. */
export const share: Check<number> = (value, path) =>
  amount(value, path) <= 1 ? (value as number) : fail(path, "a share from 0 to 1", value);

export function oneOf<T extends string | number>(...choices: readonly T[]): Check<T> {
  return (value, path) =>
    choices.find((choice) => choice === value) ?? fail(path, `one of ${choices.map(show).join(", ")}`, value);
}

export function list<T>(check: Check<T>, least = 0): Check<readonly T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) fail(path, "a list", value);
    if (value.length < least) fail(path, `a list of ${least} or more`, value);
    return value.map((item: unknown, i) => check(item, `${path}[${i}]`));
  };
}

export const settings: Check<Readonly<Record<string, string | number | boolean>>> = (value, path) => {
  const fields = object(value, path);
  for (const [key, field] of Object.entries(fields))
    if (typeof field !== "string" && typeof field !== "boolean") number(field, `${path}.${key}`);
  return fields as Readonly<Record<string, string | number | boolean>>;
};

/** An object with these fields; others that the file holds are left out. */
export function record<T extends object>(fields: Fields<T>): Check<T> {
  const checks = Object.entries(fields) as [string, Check<unknown> | Optional<unknown>][];
  return (value, path) => {
    const from = object(value, path);
    const result: Record<string, unknown> = {};
    for (const [key, check] of checks) {
      const place = path === "" ? key : `${path}.${key}`;
      if (typeof check === "function") result[key] = check(from[key], place);
      else if (from[key] !== undefined) result[key] = check.optional(from[key], place);
    }
    return result as T;
  };
}

function object(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) fail(path, "an object", value);
  return value as Record<string, unknown>;
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number") return String(value);
  const json = JSON.stringify(value) ?? typeof value;
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
