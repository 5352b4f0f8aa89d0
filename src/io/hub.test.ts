// The Hugging Face hub, imitated on loopback: what is downloaded, what comes from the cache, and what each failure says.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { encodeSafetensors } from "./safetensors-write.ts";
import { openSource } from "./source.ts";
import type { DownloadProgress } from "./source.ts";
import { openTensors } from "./tensors.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const files = new Map<string, Uint8Array>();
/** Requests that the server has seen, and how it is to misbehave. */
const seen: string[] = [];
let fault: "none" | "wrong checksum" | "breaks off" = "none";
let server: Server;
let hubUrl = "";
/** An address where nothing listens. */
let deadUrl = "";
let cacheDir = "";

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = new URL(request.url ?? "", hubUrl).pathname;
  seen.push(`${request.method} ${path}`);
  const json = (status: number, body: unknown): void =>
    void response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  if (path.startsWith("/api/models/broken/")) return json(200, { hello: "there" });
  if (path.startsWith("/api/models/private/") && request.headers.authorization !== "Bearer hf_secret")
    return json(401, { error: "Repository not found" });
  if (!/^\/(api\/models\/)?(owner|private)\/model\//.test(path)) return json(404, { error: "Repository not found" });
  if (path.includes("/revision/")) {
    if (!/\/(main|v1|0123456789abcdef.*)$/.test(path)) return json(404, { error: "Revision not found" });
    return json(200, {
      _id: "1",
      id: "owner/model",
      sha: COMMIT,
      siblings: [...files.keys()].map((rfilename) => ({ rfilename })),
      lastModified: "2026-01-01",
    });
  }
  if (path.endsWith(`/paths-info/${COMMIT}`)) {
    let body = "";
    for await (const piece of request) body += String(piece);
    const names = (JSON.parse(body) as { paths: string[] }).paths;
    return json(
      200,
      names.map((name) => describeFile(name)),
    );
  }
  return serve(files.get(path.split("/").slice(5).join("/")), request, response);
}

function describeFile(name: string): object {
  const bytes = files.get(name) ?? new Uint8Array(0);
  const oid = createHash("sha1").update(bytes).digest("hex");
  const lfs = {
    oid: sha256(fault === "wrong checksum" ? new Uint8Array(1) : bytes),
    size: bytes.length,
    pointerSize: 130,
  };
  return { type: "file", path: name, size: bytes.length, oid, ...(name.endsWith(".safetensors") ? { lfs } : {}) };
}

function serve(bytes: Uint8Array | undefined, request: IncomingMessage, response: ServerResponse): void {
  if (bytes === undefined) return void response.writeHead(404, { "X-Error-Code": "EntryNotFound" }).end();
  if (request.headers.range === "bytes=0-0") {
    return void response
      .writeHead(206, { ETag: '"x"', "Content-Range": `bytes 0-0/${bytes.length}` })
      .end(bytes.subarray(0, 1));
  }
  response.writeHead(200, { "Content-Length": bytes.length });
  if (fault === "breaks off") response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
  else response.end(bytes);
}

/** Listens on a free port of loopback; gives the address. */
async function listen(on: Server): Promise<string> {
  await new Promise<void>((resolve) => on.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(on.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  files.set("config.json", new TextEncoder().encode('{"d_model":4}'));
  files.set("README.md", new TextEncoder().encode("not needed"));
  files.set(
    "model.safetensors",
    await encodeSafetensors([
      { name: "w", dtype: "F32", shape: [300_000], data: () => new Float32Array(300_000).fill(3) },
    ]),
  );
  files.set("pytorch_model.bin", new Uint8Array(1000));
  files.set("sub/evil.json", new Uint8Array(1));
  const dead = createServer();
  deadUrl = await listen(dead);
  await new Promise((resolve) => dead.close(resolve));
  server = createServer((request, response) => void answer(request, response));
  hubUrl = await listen(server);
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "mamba-hub-"));
  seen.length = 0;
  fault = "none";
  for (const name of ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"]) vi.stubEnv(name, undefined);
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cacheDir, { recursive: true });
});

/** Opens the model, reads its config and one weight. */
async function use(
  options: { revision?: string; hubUrl?: string; onProgress?: (progress: DownloadProgress) => void } = {},
): Promise<{ config: string; weight: number }> {
  const source = await openSource("owner/model", { hubUrl, cacheDir, ...options });
  const config = await source.readText("config.json");
  const reader = await openTensors(source);
  const target = new Float32Array(1);
  await reader.readFloat32("w", target, { start: 299_999 });
  await reader.close();
  return { config, weight: target[0] };
}

describe("a model of the hub", () => {
  it("downloads only what is opened, reports progress, and keeps it in Python's cache layout", async () => {
    const progress: DownloadProgress[] = [];
    expect(await use({ onProgress: (step) => progress.push(step) })).toEqual({ config: '{"d_model":4}', weight: 3 });
    const downloads = seen.filter((line) => line.includes("/resolve/")).map((line) => line.split("/").pop());
    expect([...new Set(downloads)]).toEqual(["config.json", "model.safetensors"]);
    const size = files.get("model.safetensors")?.length ?? 0;
    const steps = progress.filter((step) => step.file === "model.safetensors");
    expect(steps[0]).toEqual({ file: "model.safetensors", loadedBytes: 0, totalBytes: size });
    expect(steps[steps.length - 1]).toEqual({ file: "model.safetensors", loadedBytes: size, totalBytes: size });
    const storage = join(cacheDir, "models--owner--model");
    expect(await readFile(join(storage, "refs", "main"), "utf8")).toBe(COMMIT);
    expect((await readdir(join(storage, "snapshots", COMMIT))).sort()).toEqual(["config.json", "model.safetensors"]);
    expect(await readdir(join(storage, "blobs"))).toContain(
      sha256(files.get("model.safetensors") ?? new Uint8Array(0)),
    );
  });

  it("lists its files, without those in subfolders", async () => {
    const source = await openSource("owner/model", { hubUrl, cacheDir });
    expect(await source.list()).toEqual(["README.md", "config.json", "model.safetensors", "pytorch_model.bin"]);
    expect([await source.has("config.json"), await source.has("tokenizer.json")]).toEqual([true, false]);
    await expect(source.open("tokenizer.json")).rejects.toThrow(/no "tokenizer\.json"; there are "README\.md"/);
  });

  it("downloads nothing the second time", async () => {
    await use();
    seen.length = 0;
    await use();
    expect(seen).toEqual(["GET /api/models/owner/model/revision/main"]);
  });

  it("works from the cache when the hub is dead, or HF_HUB_OFFLINE is set", async () => {
    await use();
    await use({ revision: "v1" });
    seen.length = 0;
    for (const revision of ["main", "v1", COMMIT]) expect((await use({ hubUrl: deadUrl, revision })).weight).toBe(3);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect((await use()).weight).toBe(3);
    expect(seen).toEqual([]);
    await rm(join(cacheDir, "models--owner--model", "snapshots", COMMIT, "model.safetensors"));
    await expect(use()).rejects.toThrow(
      /owner\/model \(its cached copy .*HF_HUB_OFFLINE is set\): there are no weights/,
    );
    await expect(use({ revision: "other" })).rejects.toThrow(
      /HF_HUB_OFFLINE is set, and the cache .* has no copy of revision "other"/,
    );
  });

  it("sends the access token", async () => {
    await expect(openSource("private/model", { hubUrl, cacheDir })).rejects.toThrow(/status 401.*HF_TOKEN/);
    await openSource("private/model", { hubUrl, cacheDir, accessToken: "hf_secret" });
    vi.stubEnv("HF_TOKEN", "hf_secret");
    await openSource("private/model", { hubUrl, cacheDir });
  });
});

describe("failures of the hub", () => {
  it("a model or revision that does not exist", async () => {
    await expect(openSource("owner/none", { hubUrl, cacheDir })).rejects.toThrow(
      /owner\/none: there is no such folder, and http.* refuses the model .*status 404.*Check the spelling/,
    );
    await expect(use({ revision: "v9" })).rejects.toThrow(/revision "v9"/);
    await expect(use({ revision: "../../x" })).rejects.toThrow(/revision/);
  });

  it("no network and no cache", async () => {
    await expect(use({ hubUrl: deadUrl })).rejects.toThrow(
      /no such folder, http.* cannot be reached: .*ECONNREFUSED.*Connect to the network/,
    );
  });

  it("a server that is not the hub", async () => {
    await expect(openSource("broken/model", { hubUrl, cacheDir })).rejects.toThrow(/does not answer like the hub/);
  });

  it.each([
    ["wrong checksum", /another checksum/],
    ["breaks off", /the download failed|broke off/],
  ] as const)("a download with the fault: %s; nothing of it stays", async (kind, message) => {
    fault = kind;
    const source = await openSource("owner/model", { hubUrl, cacheDir });
    await expect(source.open("model.safetensors")).rejects.toThrow(message);
    expect(await readdir(join(cacheDir, "models--owner--model", "blobs"))).toEqual([]);
    fault = "none";
    expect((await use()).weight).toBe(3);
  });
});
