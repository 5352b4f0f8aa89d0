// What a checkpoint is read from: files with random access, and the folder (or server, or memory) that holds them.
import { CheckpointError } from "../core/errors.ts";
import { isPlainFileName, quote } from "./text.ts";

/** A file that is open for reading at any offset. */
export interface RandomAccessFile {
  /** Name for messages. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Fills `target` with the bytes from `offset` on. Throws CheckpointError when the file ends before. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Releases the file; reading afterwards is an error. */
  close(): Promise<void>;
}

/** A flat set of named files: a folder, a repository of the hub, a URL, or memory. */
export interface FileSource {
  /** Where the files are, for messages. */
  readonly description: string;
  /** Whether there is a file of this name. */
  has(name: string): Promise<boolean>;
  /** Opens a file. Throws CheckpointError when it is missing. */
  open(name: string): Promise<RandomAccessFile>;
  /** The whole of a UTF-8 text file of at most 256 MiB. Throws CheckpointError when it is missing, too long, or not UTF-8. */
  readText(name: string): Promise<string>;
  /** Names of the files, sorted. */
  list(): Promise<string[]>;
}

const LONGEST_TEXT_BYTES = 256 * 2 ** 20;

/** Refuses names that would leave the folder (`../x`, `/etc/x`, `C:x`). Throws CheckpointError. */
export function checkFileName(name: string, where: string): void {
  if (isPlainFileName(name)) return;
  throw new CheckpointError(
    `${where}: a file name must be plain, without folders, got ${quote(name)}. Refusing to look outside the checkpoint.`,
  );
}

/** Refuses a read outside `[0, size)`. Throws CheckpointError. */
export function checkReadRange(
  file: { readonly name: string; readonly size: number },
  offset: number,
  length: number,
): void {
  if (offset >= 0 && offset + length <= file.size) return;
  throw new CheckpointError(
    `${file.name}: needs bytes ${offset} to ${offset + length}, but the file has ${file.size}. It is truncated or damaged: download it again.`,
  );
}

/** Reads the whole of an open file as UTF-8 and closes it. Throws CheckpointError when too long or not UTF-8. */
export async function readAllText(file: RandomAccessFile): Promise<string> {
  try {
    if (file.size > LONGEST_TEXT_BYTES) {
      throw new CheckpointError(
        `${file.name}: a text file of a checkpoint has at most ${LONGEST_TEXT_BYTES} bytes, this one has ${file.size}.`,
      );
    }
    const bytes = new Uint8Array(file.size);
    await file.read(0, bytes);
    return decodeUtf8(bytes, file.name);
  } finally {
    await file.close();
  }
}

/** Strict UTF-8. Throws CheckpointError. */
export function decodeUtf8(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new CheckpointError(`${name}: the text is not valid UTF-8. It is damaged: download it again.`, {
      cause: error,
    });
  }
}

/** Strict JSON of a file. Throws CheckpointError. */
export function parseJson(text: string, name: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CheckpointError(
      `${name}: not valid JSON (${(error as Error).message}). It is damaged: download it again.`,
      { cause: error },
    );
  }
}

/** Whether a parsed JSON value is an object. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Bytes in memory as an open file. */
export function memoryFile(name: string, bytes: Uint8Array): RandomAccessFile {
  const file: RandomAccessFile = {
    name,
    size: bytes.length,
    async read(offset, target) {
      checkReadRange(file, offset, target.length);
      target.set(bytes.subarray(offset, offset + target.length));
    },
    async close() {},
  };
  return file;
}
