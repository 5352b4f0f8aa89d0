// Files behind a URL, read by HTTP ranges; for browsers, and for any static server.
import { CheckpointError } from "../core/errors.ts";
import { checkFileName, checkReadRange, memoryFile, readAllText } from "./file-source.ts";
import type { FileSource, RandomAccessFile } from "./file-source.ts";
import { messageOf } from "./text.ts";

const READ_AHEAD_BYTES = 4 * 2 ** 20;

/** A server cannot be asked what it holds, so these are the names that `list` tries. */
const USUAL_NAMES: readonly string[] = [
  "config.json",
  "generation_config.json",
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
  "tokenizer.json",
  "tokenizer_config.json",
];

/**
 * The files below a URL. Ranges are asked for, with 4 MiB of read-ahead; a server that ignores them has each file fetched whole.
 * `list` gives those of the usual names that exist. Throws CheckpointError for a missing file or a failing server.
 */
export function httpSource(baseUrl: string): FileSource {
  const base = baseUrl.endsWith("/") ? baseUrl : `${baseUrl}/`;
  const urlOf = (name: string): string => {
    checkFileName(name, base);
    return base + encodeURIComponent(name);
  };
  const source: FileSource = {
    description: base,
    async has(name) {
      const response = await request(urlOf(name), { start: 0, end: 0 });
      await response.body?.cancel();
      return isThere(response);
    },
    async open(name) {
      return openUrl(urlOf(name));
    },
    async readText(name) {
      return readAllText(await source.open(name));
    },
    async list() {
      const found = await Promise.all(USUAL_NAMES.map((name) => source.has(name)));
      return USUAL_NAMES.filter((_, i) => found[i]);
    },
  };
  return source;
}

/** Development servers answer an unknown path with their start page: a page of HTML is never a file of a checkpoint. */
function isThere(response: Response): boolean {
  const isPage = response.headers.get("content-type")?.startsWith("text/html") ?? false;
  return (response.ok || isEmptyFile(response)) && !isPage;
}

/** A file of no bytes has no range to give: status 416, and a total of 0. */
function isEmptyFile(response: Response): boolean {
  return response.status === 416 && response.headers.get("content-range") === "bytes */0";
}

async function request(url: string, range?: { start: number; end: number }): Promise<Response> {
  try {
    return await fetch(url, range === undefined ? {} : { headers: { Range: `bytes=${range.start}-${range.end}` } });
  } catch (error) {
    throw new CheckpointError(
      `${url}: the server cannot be reached: ${messageOf(error)}. Check the address and the connection.`,
      { cause: error },
    );
  }
}

async function bodyOf(url: string, response: Response): Promise<Uint8Array> {
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    throw new CheckpointError(`${url}: the download broke off: ${messageOf(error)}. Try again.`, { cause: error });
  }
}

async function openUrl(url: string): Promise<RandomAccessFile> {
  const response = await request(url, { start: 0, end: 0 });
  if (!isThere(response)) {
    await response.body?.cancel();
    throw new CheckpointError(`${url}: no such file (status ${response.status}). Check the address.`);
  }
  if (isEmptyFile(response)) return memoryFile(url, new Uint8Array(0));
  if (response.status !== 206) return memoryFile(url, await bodyOf(url, response));
  await response.body?.cancel();
  const total = Number(response.headers.get("content-range")?.split("/")[1] ?? Number.NaN);
  if (Number.isSafeInteger(total)) return rangedFile(url, total);
  const whole = await request(url);
  if (!whole.ok) throw new CheckpointError(`${url}: the server answers with status ${whole.status}.`);
  return memoryFile(url, await bodyOf(url, whole));
}

function rangedFile(url: string, size: number): RandomAccessFile {
  let ahead: { start: number; bytes: Uint8Array } = { start: 0, bytes: new Uint8Array(0) };
  const file: RandomAccessFile = {
    name: url,
    size,
    async read(offset, target) {
      checkReadRange(file, offset, target.length);
      let window = ahead;
      const isInside = offset >= window.start && offset + target.length <= window.start + window.bytes.length;
      if (!isInside) {
        const end = Math.min(size, offset + Math.max(target.length, READ_AHEAD_BYTES));
        window = { start: offset, bytes: await fetchRange(url, offset, end) };
        ahead = window;
      }
      target.set(window.bytes.subarray(offset - window.start, offset - window.start + target.length));
    },
    async close() {
      ahead = { start: 0, bytes: new Uint8Array(0) };
    },
  };
  return file;
}

/** Bytes `[start, end)`. */
async function fetchRange(url: string, start: number, end: number): Promise<Uint8Array> {
  const response = await request(url, { start, end: end - 1 });
  if (response.status !== 206) {
    await response.body?.cancel();
    throw new CheckpointError(
      `${url}: asked for bytes ${start} to ${end}, the server answers with status ${response.status}. Try again.`,
    );
  }
  const bytes = await bodyOf(url, response);
  if (bytes.length !== end - start) {
    throw new CheckpointError(
      `${url}: asked for bytes ${start} to ${end}, got ${bytes.length} bytes. The download broke off: try again.`,
    );
  }
  return bytes;
}
