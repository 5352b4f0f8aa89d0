// A folder on disk as a source of files (Node only).
import * as fs from "node:fs/promises";
import * as nodePath from "node:path";
import { CheckpointError } from "../core/errors.ts";
import { checkFileName, checkReadRange, readAllText } from "./file-source.ts";
import type { FileSource, RandomAccessFile } from "./file-source.ts";
import { codeOf, messageOf, quote, quoteSome } from "./text.ts";

/** Whether a folder of this path exists. Throws CheckpointError when it is a file. */
export async function isFolder(path: string): Promise<boolean> {
  const found = await fs.stat(path).catch(() => undefined);
  if (found === undefined) return false;
  if (found.isDirectory()) return true;
  throw new CheckpointError(
    `${path}: a checkpoint is a folder (config.json and weights), but this is a file. Give the folder that holds it.`,
  );
}

/** The files of a folder (not of its subfolders). Throws CheckpointError when the folder or a file is missing or unreadable. */
export function folderSource(path: string): FileSource {
  const source: FileSource = {
    description: path,
    async has(name) {
      checkFileName(name, path);
      const found = await fs.stat(nodePath.join(path, name)).catch(() => undefined);
      return found?.isFile() ?? false;
    },
    async open(name) {
      checkFileName(name, path);
      return openFile(nodePath.join(path, name), () => source.list());
    },
    async readText(name) {
      return readAllText(await source.open(name));
    },
    async list() {
      try {
        const entries = await fs.readdir(path, { withFileTypes: true });
        return entries
          .filter((entry) => !entry.isDirectory())
          .map((entry) => entry.name)
          .sort();
      } catch (error) {
        throw new CheckpointError(
          `${path}: cannot read the folder: ${messageOf(error)}. Give an existing folder with config.json and weights.`,
          { cause: error },
        );
      }
    },
  };
  return source;
}

async function openFile(path: string, listFolder: () => Promise<string[]>): Promise<RandomAccessFile> {
  let handle: fs.FileHandle;
  try {
    handle = await fs.open(path, "r");
  } catch (error) {
    if (codeOf(error) !== "ENOENT")
      throw new CheckpointError(`${path}: cannot be opened: ${messageOf(error)}.`, { cause: error });
    throw new CheckpointError(`${path}: no such file; the folder holds ${quoteSome(await listFolder())}.`, {
      cause: error,
    });
  }
  const found = await handle.stat();
  if (!found.isFile()) {
    await handle.close();
    throw new CheckpointError(`${path}: is not a file.`);
  }
  return randomAccess(path, handle, found.size);
}

function randomAccess(name: string, handle: fs.FileHandle, size: number): RandomAccessFile {
  const file: RandomAccessFile = {
    name,
    size,
    async read(offset, target) {
      checkReadRange(file, offset, target.length);
      let done = 0;
      while (done < target.length) {
        const { bytesRead } = await readSome(name, handle, target, done, offset + done);
        if (bytesRead === 0)
          throw new CheckpointError(
            `${name}: ended at byte ${offset + done} of ${size} while it was read. Did something shorten ${quote(name)} meanwhile?`,
          );
        done += bytesRead;
      }
    },
    close: () => handle.close(),
  };
  return file;
}

async function readSome(
  name: string,
  handle: fs.FileHandle,
  target: Uint8Array,
  done: number,
  position: number,
): Promise<{ bytesRead: number }> {
  try {
    return await handle.read(target, done, target.length - done, position);
  } catch (error) {
    throw new CheckpointError(`${name}: cannot be read at byte ${position}: ${messageOf(error)}.`, { cause: error });
  }
}
