// Text files and folders of them, in Node.

import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { DataError } from "../core/errors.ts";
import { decodeText } from "./text.ts";

/**
 * The texts of files, in the order given; of a folder, every `*.txt` in it (not deeper), sorted by name, the same on every machine.
 * @throws DataError when a path is missing or unreadable, a folder has no text, or a file is empty or not UTF-8.
 */
export async function readTextFiles(paths: readonly string[]): Promise<string[]> {
  if (paths.length === 0)
    throw new DataError("data: at least one text file or folder must be given, got none. Name one, e.g. book.txt.");
  const texts: string[] = [];
  for (const path of paths) {
    for (const file of await filesOf(path)) {
      const text = decodeText(await guarded(file, () => readFile(file)), file);
      if (text.trim() === "")
        throw new DataError(
          `${file}: a text must not be empty, got ${text.length === 0 ? "0 bytes" : "white space alone"}. Leave it out.`,
        );
      texts.push(text);
    }
  }
  return texts;
}

/** The text files that paths name: themselves, or of a folder every `*.txt` in it. Throws DataError as {@link readTextFiles}. */
export async function listTextFiles(paths: readonly string[]): Promise<string[]> {
  return (await Promise.all(paths.map(filesOf))).flat();
}

async function filesOf(path: string): Promise<string[]> {
  const info = await guarded(path, () => stat(path));
  if (!info.isDirectory()) return [path];
  const names = (await guarded(path, () => readdir(path, { withFileTypes: true })))
    .filter((entry) => !entry.isDirectory() && entry.name.toLowerCase().endsWith(".txt"))
    .map((entry) => entry.name);
  if (names.length === 0)
    throw new DataError(
      `${path}: a folder of texts must hold *.txt files, got none. Name the files themselves if they end otherwise.`,
    );
  // By code units, not by locale: the same order everywhere.
  return names.sort((a, b) => (a < b ? -1 : 1)).map((name) => join(path, name));
}

async function guarded<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    const remedy =
      code === "ENOENT" ? "Is the path right?" : code === "EACCES" ? "May you read it?" : "Look at the file.";
    throw new DataError(`${path}: a text must be a readable file or folder, got ${code}. ${remedy}`, { cause: error });
  }
}
