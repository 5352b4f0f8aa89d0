// Writes a file so that a crash, a full disk or a kill leaves either the old file or the new one, never half of one.
import { checkNode } from "../core/node-only.ts";

const NO_FILES = "A browser has no folders to write to.";

/** The content of a file: a text, bytes, or a function that writes it piece by piece. */
export type FileContent = string | Uint8Array | ((write: (bytes: Uint8Array) => Promise<void>) => Promise<void>);

/**
 * Writes a temporary file beside `path`, flushes it to the disk and renames it to `path`; on any failure the temporary file is removed
 * and the old file stays as it was. Node only. Throws DataError for what the system refuses (no space, no permission, no folder);
 * errors of a `content` function that are not the system's come through as they are.
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  checkNode(`Writing ${path}`, NO_FILES);
  const { writeFileAtomicNode } = await import("./atomic-node.ts");
  await writeFileAtomicNode(path, content);
}

/** Makes a folder and those above it, unless they exist. Node only. Throws DataError for what the system refuses. */
export async function makeFolder(path: string): Promise<void> {
  checkNode(`Writing ${path}`, NO_FILES);
  const { makeFolderNode } = await import("./atomic-node.ts");
  await makeFolderNode(path);
}
