// Texts and bytes that a person names on the command line: files, or "-" for standard input.
import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { buffer } from "node:stream/consumers";
import { DataError, UsageError } from "../core/errors.ts";
import { codeOf, messageOf } from "../io/text.ts";

/** Largest text that JavaScript holds in one string, in bytes of UTF-8 that are certain to fit. */
const MOST_TEXT_BYTES = 2 ** 29 - 25;

const PROBLEMS: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "there is no such file. Check the path."],
  ["EISDIR", "this is a folder; give a file."],
  ["EACCES", "no permission to read it."],
  ["ERR_FS_FILE_TOO_LARGE", "it is larger than 2 GiB; split it."],
]);

/** The bytes of a file, or of standard input for "-". `option` names who asks. Throws DataError. */
export async function readBytes(path: string, option: string): Promise<Uint8Array> {
  try {
    if (path !== "-") return await readFile(path);
    if (process.stdin.isTTY)
      throw new UsageError(
        `${option} -: standard input is the keyboard. Pipe a text into the command, or name a file.`,
      );
    return await buffer(process.stdin);
  } catch (cause) {
    if (cause instanceof UsageError) throw cause;
    throw new DataError(`${option} ${path}: ${PROBLEMS.get(codeOf(cause)) ?? `cannot be read: ${messageOf(cause)}.`}`, {
      cause,
    });
  }
}

/** Throws DataError when the folder that a file is to be written into does not exist: better before the work than after. */
export async function checkFolderOf(path: string, option: string): Promise<void> {
  const folder = dirname(path);
  const found = await stat(folder).catch(() => undefined);
  if (!found?.isDirectory()) throw new DataError(`${option} ${path}: there is no folder ${folder}. Make it first.`);
}

/** A text file as it is: strict UTF-8, line ends and a byte order mark kept. Throws DataError. */
export async function readText(path: string, option: string): Promise<string> {
  const bytes = await readBytes(path, option);
  if (bytes.length > MOST_TEXT_BYTES)
    throw new DataError(`${option} ${path}: a text of at most 512 MiB can be read at once, got ${bytes.length} bytes.`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new DataError(
      `${option} ${path}: the text must be UTF-8, and it is not. Convert it, for example with iconv.`,
      {
        cause,
      },
    );
  }
}
