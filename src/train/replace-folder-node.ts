// Replacing a folder as a whole, so that a kill at any moment leaves the old one or the new one, complete. Node only.
// Folders cannot be renamed over each other, so there is a moment between two renames; recoverFolder closes it.
import * as fs from "node:fs/promises";
import * as nodePath from "node:path";
import { DataError, MambaError } from "../core/errors.ts";

/** Windows refuses to rename what a reader or a virus scanner holds; it lets go within moments. */
const RENAME_ATTEMPTS = 8;
const RENAME_WAIT_MS = 25;

/**
 * Fills `<folder>.new`, then renames: the folder that is there to `<folder>.old`, the new one into its place; then removes
 * the old one. When anything fails, the folder is as it was. What `fill` throws comes through if it is one of our errors.
 * @throws DataError for what the system refuses
 */
export async function replaceFolder(folder: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const { incoming, outgoing } = namesBeside(folder);
  try {
    await recoverFolder(folder);
    await fs.mkdir(incoming, { recursive: true });
    await fill(incoming);
    await flushFolder(incoming);
    const isReplacing = await exists(folder);
    if (isReplacing) await rename(folder, outgoing);
    try {
      await rename(incoming, folder);
    } catch (error) {
      if (isReplacing) await rename(outgoing, folder);
      throw error;
    }
    await flushFolder(nodePath.dirname(folder));
    await remove(outgoing);
  } catch (error) {
    await remove(incoming).catch(() => undefined);
    if (error instanceof MambaError) throw error;
    throw new DataError(
      `${folder}: cannot be written: ${(error as Error).message}. Is the disk full, or the folder read-only or open in another program? What was there before is unchanged.`,
      { cause: error },
    );
  }
}

/**
 * Puts a folder right after a kill inside {@link replaceFolder}, and removes what it left beside it.
 * `.old` without the folder: the kill came between the two renames, and `.new` is complete, if it is there.
 */
export async function recoverFolder(folder: string): Promise<void> {
  const { incoming, outgoing } = namesBeside(folder);
  if (!(await exists(folder)) && (await exists(outgoing))) {
    await rename((await exists(incoming)) ? incoming : outgoing, folder);
    await flushFolder(nodePath.dirname(folder));
  }
  await remove(outgoing);
  await remove(incoming);
}

/** Whether there is something of this name. */
export async function exists(path: string): Promise<boolean> {
  return fs.stat(path).then(
    () => true,
    () => false,
  );
}

function namesBeside(folder: string): { incoming: string; outgoing: string } {
  return { incoming: `${folder}.new`, outgoing: `${folder}.old` };
}

async function remove(path: string): Promise<void> {
  await fs.rm(path, { recursive: true, force: true, maxRetries: RENAME_ATTEMPTS, retryDelay: RENAME_WAIT_MS });
}

async function rename(from: string, to: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await fs.rename(from, to);
      return;
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      const isHeld = process.platform === "win32" && ["EPERM", "EACCES", "EBUSY"].includes(code);
      if (!isHeld || attempt === RENAME_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, RENAME_WAIT_MS * attempt));
    }
  }
}

/** Makes names in a folder durable; Windows cannot open folders and needs no such thing. */
async function flushFolder(path: string): Promise<void> {
  const handle = await fs.open(path, "r").catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
