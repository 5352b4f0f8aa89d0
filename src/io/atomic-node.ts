// Atomic writing with Node's file system: temporary file, flush, rename.
import * as crypto from "node:crypto";
import * as fs from "node:fs/promises";
import * as nodePath from "node:path";
import { DataError } from "../core/errors.ts";
import type { FileContent } from "./atomic.ts";
import { codeOf, messageOf } from "./text.ts";

/** What a person can do about an error of the system. */
const REMEDIES: ReadonlyMap<string, string> = new Map([
  ["ENOSPC", "The disk is full: free some space, or choose another folder."],
  ["EDQUOT", "Your quota is used up: free some space, or choose another folder."],
  ["EFBIG", "The file is too large for this file system: choose another folder."],
  ["EACCES", "No permission: choose a folder that you may write to."],
  ["EPERM", "No permission, or another program holds the file: close it, or choose another folder."],
  ["EROFS", "The file system is read-only: choose another folder."],
  ["ENOENT", "The folder does not exist: make it first."],
  ["ENOTDIR", "A part of the path is a file: choose another folder."],
  ["EISDIR", "There is a folder of this name: choose another name."],
  ["EBUSY", "Another program holds the file: close it and try again."],
  ["EMFILE", "Too many files are open: close some and try again."],
  ["EIO", "The disk reports a fault: choose another folder."],
]);

/** Windows refuses to replace a file while a reader or a virus scanner holds it; it lets go within moments. */
const RENAME_ATTEMPTS = 8;
const RENAME_WAIT_MS = 25;

/** See writeFileAtomic. */
export async function writeFileAtomicNode(path: string, content: FileContent): Promise<void> {
  const temporary = `${path}.${crypto.randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeAndFlush(temporary, content);
    await replace(temporary, path);
  } catch (error) {
    await fs.rm(temporary, { force: true }).catch(() => undefined);
    const remedy = REMEDIES.get(codeOf(error));
    if (remedy === undefined) throw error;
    throw new DataError(
      `${path}: cannot be written: ${messageOf(error)}. ${remedy} The file that was there before is unchanged.`,
      { cause: error },
    );
  }
  await flushFolder(nodePath.dirname(path));
}

async function writeAndFlush(path: string, content: FileContent): Promise<void> {
  const handle = await fs.open(path, "wx");
  try {
    if (typeof content === "function") await content((bytes) => writeAll(handle, bytes));
    else await writeAll(handle, typeof content === "string" ? new TextEncoder().encode(content) : content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAll(handle: fs.FileHandle, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done);
    done += bytesWritten;
  }
}

async function replace(from: string, to: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await fs.rename(from, to);
      return;
    } catch (error) {
      const isHeld = process.platform === "win32" && ["EPERM", "EACCES", "EBUSY"].includes(codeOf(error));
      if (!isHeld || attempt === RENAME_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RENAME_WAIT_MS * attempt));
    }
  }
}

/** Makes the rename itself durable; Windows cannot open folders and needs no such thing. */
async function flushFolder(path: string): Promise<void> {
  const handle = await fs.open(path, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}

/** See makeFolder. */
export async function makeFolderNode(path: string): Promise<void> {
  try {
    await fs.mkdir(path, { recursive: true });
  } catch (error) {
    const remedy = REMEDIES.get(codeOf(error)) ?? "Choose another folder.";
    throw new DataError(`${path}: the folder cannot be made: ${messageOf(error)}. ${remedy}`, { cause: error });
  }
}
