// How io code puts foreign names and errors into messages: short, quoted, never as they came.

const LONGEST_NAME = 80;

/** A foreign name for a message: quoted, control characters escaped, cut after 80 characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME)}…` : name);
}

/** The first few of some names for a message, `"a", "b" and 12 more`. */
export function quoteSome(names: readonly string[], most = 8): string {
  if (names.length === 0) return "nothing";
  const shown = names.slice(0, most).map(quote).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}

/** A foreign value for a message: what it is, never its contents when it is nested. */
export function describe(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/** The message of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const cause = thrown.cause === undefined ? "" : messageOf(thrown.cause);
  return cause === "" || thrown.message.includes(cause) ? thrown.message : `${thrown.message} (${cause})`;
}

/** The system's code of an error (`"ENOENT"`, `"ENOSPC"`), `""` when it has none. */
export function codeOf(thrown: unknown): string {
  if (typeof thrown !== "object" || thrown === null || !("code" in thrown)) return "";
  return typeof thrown.code === "string" ? thrown.code : "";
}

/** Whether a name is a file directly in a folder: no separator, no drive, no `..`, nothing hidden in control characters. */
export function isPlainFileName(name: string): boolean {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return name.length > 0 && name.length <= 255 && name !== "." && name !== ".." && !/[/\\:\u0000-\u001f]/.test(name);
}
