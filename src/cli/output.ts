// Where the commands write: results on stdout, everything else on stderr; colour only on terminals that want it.

import { codeOf } from "../io/text.ts";

/** Writes a result; waits until a slow reader has taken it, so that memory stays flat. */
export async function print(text: string): Promise<void> {
  if (process.stdout.write(text)) return;
  await new Promise<void>((resolve) => process.stdout.once("drain", resolve));
}

/** The one result of a command that was asked for JSON. */
export function printJson(value: unknown): Promise<void> {
  return print(`${JSON.stringify(value, null, 2)}\n`);
}

/** A line for people, beside the result. */
export function log(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** A line that may be overlooked: grey on a terminal with colours. */
export function logDim(line: string): void {
  log(hasColor(process.stderr) ? `\u001B[2m${line}\u001B[22m` : line);
}

export function bold(text: string): string {
  return hasColor(process.stdout) ? `\u001B[1m${text}\u001B[22m` : text;
}

/** Green for what is well, red for what is not. */
export function mark(isGood: boolean): string {
  const text = isGood ? "ok" : "FAIL";
  return hasColor(process.stdout) ? `\u001B[${isGood ? 32 : 31}m${text}\u001B[39m` : text;
}

/** No colours for pipes, files, dumb terminals, and who sets NO_COLOR (https://no-color.org). */
export function hasColor(stream: { isTTY?: boolean }): boolean {
  return (stream.isTTY ?? false) && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
}

/** Text of a model for a terminal: control characters that would move the cursor or worse are shown as U+FFFD. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  return text.replace(/[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g, "\uFFFD");
}

/**
 * `mamba ... | head` is no error: a reader who has enough ends the command quietly. Output that goes nowhere for another
 * reason (a full disk) is one.
 */
export function watchOutput(): void {
  process.stdout.on("error", (error) => {
    const isClosed = codeOf(error) === "EPIPE";
    if (!isClosed) log(`mamba: the output cannot be written: ${error.message}.`);
    // oxlint-disable-next-line unicorn/no-process-exit -- nobody is left to read the rest
    process.exit(isClosed ? 0 : 1);
  });
  process.stderr.on("error", () => undefined);
}
