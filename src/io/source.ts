// Where the files of a checkpoint come from: openSource finds a folder, a URL, or a model of the Hugging Face hub.
import { CheckpointError } from "../core/errors.ts";
import { checkFileName, memoryFile, readAllText } from "./file-source.ts";
import type { FileSource } from "./file-source.ts";
import { httpSource } from "./http-source.ts";
import { quote, quoteSome } from "./text.ts";

export type { FileSource, RandomAccessFile } from "./file-source.ts";
export { httpSource } from "./http-source.ts";

/** How far a download is. */
export interface DownloadProgress {
  /** Name of the file within its model. */
  readonly file: string;
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

/** Options of openSource; all but `onProgress` matter only for names of the hub. */
export interface OpenSourceOptions {
  /** Branch, tag or commit. Default `"main"`. */
  readonly revision?: string;
  /** Address of the hub. Default: the environment's HF_ENDPOINT, else https://huggingface.co. */
  readonly hubUrl?: string;
  /** Folder of the cache, shared with Python's huggingface_hub. Default: HF_HUB_CACHE, HF_HOME/hub, or ~/.cache/huggingface/hub. */
  readonly cacheDir?: string;
  /** Token for private models, `hf_...`. Default: the environment's HF_TOKEN. */
  readonly accessToken?: string;
  /** Called while a file downloads, at its start and at its end. */
  readonly onProgress?: (progress: DownloadProgress) => void;
}

const HUB_NAME = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

/** Files in memory as a source; for tests and for files that a page's visitor chose. */
export function memorySource(files: Readonly<Record<string, Uint8Array>>): FileSource {
  const byName = new Map(Object.entries(files));
  const source: FileSource = {
    description: "files in memory",
    async has(name) {
      return byName.has(name);
    },
    async open(name) {
      checkFileName(name, source.description);
      const bytes = byName.get(name);
      if (bytes === undefined) {
        throw new CheckpointError(
          `${source.description}: there is no ${quote(name)}; there are ${quoteSome([...byName.keys()])}.`,
        );
      }
      return memoryFile(name, bytes);
    },
    async readText(name) {
      return readAllText(await source.open(name));
    },
    async list() {
      return [...byName.keys()].sort();
    },
  };
  return source;
}

/**
 * Finds a checkpoint: an existing folder; else a URL (`https://...`); else a model of the hub, `owner/name`.
 * Files of the hub are downloaded when they are first opened, into the hub's own cache, and later taken from there; when the hub
 * cannot be reached, what the cache holds is used. In a browser there are no folders and no cache: names of the hub are read by ranges.
 * Throws CheckpointError, which says what was tried and what to do.
 */
export async function openSource(nameOrFolder: string, options: OpenSourceOptions = {}): Promise<FileSource> {
  if (/^https?:\/\//i.test(nameOrFolder)) return httpSource(nameOrFolder);
  const isNode = typeof process !== "undefined" && process.versions?.node !== undefined;
  if (isNode) {
    const { folderSource, isFolder } = await import("./folder-node.ts");
    if (await isFolder(nameOrFolder)) return folderSource(nameOrFolder);
  }
  if (!HUB_NAME.test(nameOrFolder) || nameOrFolder.includes("..")) {
    throw new CheckpointError(
      `openSource: there is no folder ${quote(nameOrFolder)}, and it is not a name of the hub, which reads "owner/name". ` +
        `Give a folder that holds config.json and weights, or a name such as "state-spaces/mamba-130m-hf".`,
    );
  }
  if (isNode) {
    const { openHub } = await import("./hub-node.ts");
    return openHub(nameOrFolder, options);
  }
  const hubUrl = options.hubUrl ?? "https://huggingface.co";
  return httpSource(`${hubUrl}/${nameOrFolder}/resolve/${encodeURIComponent(options.revision ?? "main")}/`);
}
