// Models of the Hugging Face hub as a source of files: downloaded when first opened, kept in the hub's own cache (Node only).
// The cache has the layout of Python's huggingface_hub: models--owner--name/{refs,snapshots,blobs}. The package's own
// downloadFileToCacheDir is not used because it writes to standard output, which `--json` needs, and reports no progress.
import * as crypto from "node:crypto";
import * as fs from "node:fs/promises";
import * as nodePath from "node:path";
import type { PathInfo } from "@huggingface/hub";
import { CheckpointError } from "../core/errors.ts";
import { writeFileAtomicNode } from "./atomic-node.ts";
import { checkFileName, readAllText } from "./file-source.ts";
import type { FileSource } from "./file-source.ts";
import { folderSource } from "./folder-node.ts";
import type { DownloadProgress, OpenSourceOptions } from "./source.ts";
import { codeOf, isPlainFileName, messageOf, quote, quoteSome } from "./text.ts";

type Hub = typeof import("@huggingface/hub");

/** A model of the hub at one commit, and where its files are kept. */
interface Snapshot {
  readonly hub: Hub;
  readonly repo: { readonly type: "model"; readonly name: string };
  readonly access: { readonly hubUrl: string; readonly accessToken?: string };
  readonly commit: string;
  /** models--owner--name of the cache. */
  readonly storage: string;
  readonly onProgress: (progress: DownloadProgress) => void;
}

const PROGRESS_EVERY_MS = 100;
/** Answers of the hub that trying again does not change. */
const FINAL_STATUSES: readonly number[] = [400, 401, 403, 404, 410];

/**
 * Opens a model `owner/name`. The hub is asked once which commit the revision is; files are downloaded when they are first opened.
 * When the hub cannot be reached, or HF_HUB_OFFLINE is set, the cached snapshot of the revision is used.
 * Throws CheckpointError: no such model, no permission, or neither hub nor cache.
 */
export async function openHub(name: string, options: OpenSourceOptions): Promise<FileSource> {
  const hub = await import("@huggingface/hub");
  const revision = options.revision ?? "main";
  const storage = nodePath.join(options.cacheDir ?? hub.getHFHubCachePath(), `models--${name.replace("/", "--")}`);
  const hubUrl = options.hubUrl ?? process.env["HF_ENDPOINT"] ?? hub.HUB_URL;
  const accessToken = options.accessToken ?? process.env["HF_TOKEN"];
  const access = { hubUrl, ...(accessToken === undefined || accessToken === "" ? {} : { accessToken }) };
  if (/^(1|true|yes|on)$/i.test(process.env["HF_HUB_OFFLINE"] ?? ""))
    return openCached(name, revision, storage, "HF_HUB_OFFLINE is set");
  let info: { sha?: string; filePaths?: string[] };
  try {
    info = await hub.modelInfo({ name, revision, additionalFields: ["sha", "filePaths"], ...access });
  } catch (error) {
    if (error instanceof hub.HubApiError && FINAL_STATUSES.includes(error.statusCode))
      throw refusedByHub(name, revision, hubUrl, error.statusCode);
    return openCached(name, revision, storage, `${hubUrl} cannot be reached: ${messageOf(error)}`);
  }
  const { sha: commit, filePaths: files } = info;
  if (typeof commit !== "string" || !/^[0-9a-f]{40}$/.test(commit) || !Array.isArray(files)) {
    throw new CheckpointError(
      `${name}: ${hubUrl} does not answer like the hub: no commit or no list of files. Check the address.`,
    );
  }
  if (revision !== commit) await rememberRevision(storage, revision, commit);
  const snapshot = {
    hub,
    repo: { type: "model", name },
    access,
    commit,
    storage,
    onProgress: options.onProgress ?? (() => {}),
  } as const;
  return snapshotSource(snapshot, files.filter(isPlainFileName).sort());
}

function refusedByHub(name: string, revision: string, hubUrl: string, status: number): CheckpointError {
  const remedy =
    status === 401 || status === 403
      ? "It does not exist, or is private or gated: check the spelling, or give an access token (HF_TOKEN) that may read it"
      : "Check the spelling of the name and the revision";
  return new CheckpointError(
    `${name}: there is no such folder, and ${hubUrl} refuses the model at revision ${quote(revision)} (status ${status}). ${remedy}.`,
  );
}

/** The snapshot of a revision that an earlier run has left in the cache. */
async function openCached(name: string, revision: string, storage: string, reason: string): Promise<FileSource> {
  const remembered = await fs.readFile(refPath(storage, revision), "utf8").catch(() => revision);
  const folder = nodePath.join(storage, "snapshots", nodePath.basename(remembered.trim()));
  const isCached = await fs
    .stat(folder)
    .then((found) => found.isDirectory())
    .catch(() => false);
  if (!isCached) {
    throw new CheckpointError(
      `${name}: there is no such folder, ${reason}, and the cache ${storage} has no copy of revision ${quote(revision)}. ` +
        `Connect to the network, or download the model's files elsewhere and give their folder.`,
    );
  }
  return { ...folderSource(folder), description: `${name} (its cached copy ${folder}; ${reason})` };
}

/** refs/<revision>; a branch may be named a/b, but never leave the folder. */
function refPath(storage: string, revision: string): string {
  if (revision.split(/[/\\]/).includes("..") || nodePath.isAbsolute(revision))
    throw new CheckpointError(`${quote(revision)} is no revision: give a branch, a tag or a commit.`);
  return nodePath.join(storage, "refs", revision);
}

async function rememberRevision(storage: string, revision: string, commit: string): Promise<void> {
  const path = refPath(storage, revision);
  await makeFolder(nodePath.dirname(path));
  await writeFileAtomicNode(path, commit);
}

async function makeFolder(path: string): Promise<void> {
  try {
    await fs.mkdir(path, { recursive: true });
  } catch (error) {
    throw new CheckpointError(
      `${path}: the cache folder cannot be made: ${messageOf(error)}. Choose another with HF_HUB_CACHE.`,
      { cause: error },
    );
  }
}

function snapshotSource(snapshot: Snapshot, files: readonly string[]): FileSource {
  const folder = nodePath.join(snapshot.storage, "snapshots", snapshot.commit);
  const cached = folderSource(folder);
  const source: FileSource = {
    description: `${snapshot.repo.name} (${snapshot.access.hubUrl})`,
    async has(name) {
      return files.includes(name);
    },
    async open(name) {
      checkFileName(name, source.description);
      if (!files.includes(name))
        throw new CheckpointError(`${source.description}: there is no ${quote(name)}; there are ${quoteSome(files)}.`);
      if (!(await cached.has(name))) await download(snapshot, name, nodePath.join(folder, name));
      return cached.open(name);
    },
    async readText(name) {
      return readAllText(await source.open(name));
    },
    async list() {
      return [...files];
    },
  };
  return source;
}

/** Downloads a file to blobs/<etag> and links it into the snapshot. */
async function download(snapshot: Snapshot, name: string, pointer: string): Promise<void> {
  const where = `${snapshot.repo.name}: ${name}`;
  try {
    const info = await findBlob(snapshot, name, where);
    const blob = nodePath.join(snapshot.storage, "blobs", info.etag);
    await makeFolder(nodePath.dirname(blob));
    await makeFolder(nodePath.dirname(pointer));
    const isThere = await fs
      .stat(blob)
      .then(() => true)
      .catch(() => false);
    if (!isThere) await writeFileAtomicNode(blob, (write) => streamBlob(snapshot, name, info, where, write));
    await link(blob, pointer);
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(
      `${where}: the download failed: ${messageOf(error)}. Try again; what was complete is kept.`,
      { cause: error },
    );
  }
}

interface BlobInfo {
  /** Name of the blob: SHA-256 for large files, git's object id for small ones. */
  readonly etag: string;
  readonly size: number;
  /** SHA-256 of the content, where the hub tells. */
  readonly sha256: string | undefined;
}

async function findBlob({ hub, repo, access, commit }: Snapshot, name: string, where: string): Promise<BlobInfo> {
  const [info] = (await hub.pathsInfo({ repo, paths: [name], revision: commit, ...access })) as (
    | PathInfo
    | undefined
  )[];
  const etag = info?.lfs?.oid ?? info?.oid;
  if (info === undefined || etag === undefined || !/^[0-9a-f]{40,64}$/.test(etag))
    throw new CheckpointError(`${where}: the hub tells nothing about this file. Try again later.`);
  return { etag, size: info.lfs?.size ?? info.size, sha256: info.lfs?.oid };
}

async function streamBlob(
  { hub, repo, access, commit, onProgress }: Snapshot,
  name: string,
  { size, sha256 }: BlobInfo,
  where: string,
  write: (bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const blob = await hub.downloadFile({ repo, path: name, revision: commit, ...access });
  if (blob === null)
    throw new CheckpointError(`${where}: the hub lists the file, but does not have it. Try again later.`);
  const hash = crypto.createHash("sha256");
  let loaded = 0;
  let reported = Date.now();
  onProgress({ file: name, loadedBytes: 0, totalBytes: size });
  for await (const bytes of blob.stream()) {
    await write(bytes);
    hash.update(bytes);
    loaded += bytes.length;
    if (Date.now() - reported < PROGRESS_EVERY_MS) continue;
    reported = Date.now();
    onProgress({ file: name, loadedBytes: loaded, totalBytes: size });
  }
  if (loaded !== size)
    throw new CheckpointError(
      `${where}: the hub announced ${size} bytes, ${loaded} came. The download broke off: try again.`,
    );
  if (sha256 !== undefined && hash.digest("hex") !== sha256)
    throw new CheckpointError(`${where}: what came has another checksum than the hub announced. Try again.`);
  onProgress({ file: name, loadedBytes: loaded, totalBytes: size });
}

/** A symbolic link as in Python's cache; a copy where the system (Windows) does not allow links. */
async function link(blob: string, pointer: string): Promise<void> {
  try {
    await fs.symlink(nodePath.relative(nodePath.dirname(pointer), blob), pointer);
  } catch (error) {
    if (codeOf(error) !== "EEXIST") await fs.copyFile(blob, pointer);
  }
}
