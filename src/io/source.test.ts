// Sources of files: memory, folders, HTTP with and without ranges, and the errors of openSource.
import { createServer } from "node:http";
import type { Server } from "node:http";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CheckpointError } from "../core/errors.ts";
import { folderSource } from "./folder-node.ts";
import type { FileSource } from "./source.ts";
import { httpSource, memorySource, openSource } from "./source.ts";

const BIG = Uint8Array.from({ length: 10_000_000 }, (_, i) => (i * 7) % 251);
const FILES: Record<string, Uint8Array> = {
  "config.json": new TextEncoder().encode('{"größe":1}'),
  "big.bin": BIG,
  "empty.bin": new Uint8Array(0),
  "latin.json": Uint8Array.of(0x22, 0xe9, 0x22),
};

let folder = "";
let server: Server;
let url = "";
/** Byte ranges that the server was asked for. */
const asked: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mamba-source-"));
  await mkdir(join(folder, "model", "sub"), { recursive: true });
  for (const [name, bytes] of Object.entries(FILES)) await writeFile(join(folder, "model", name), bytes);
  server = createServer((request, response) => {
    const [, kind, name] = (request.url ?? "").split("/");
    const bytes = FILES[decodeURIComponent(name ?? "")];
    if (kind === "failing" || bytes === undefined) {
      const isPage = kind === "spa";
      response
        .writeHead(isPage ? 200 : kind === "failing" ? 500 : 404, { "Content-Type": "text/html" })
        .end("<html></html>");
      return;
    }
    const range = /bytes=(\d+)-(\d+)/.exec(kind === "plain" ? "" : (request.headers.range ?? ""));
    if (range === null) {
      response.writeHead(200).end(bytes);
      return;
    }
    asked.push(range[0]);
    const [start, end] = [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
    if (start >= bytes.length) response.writeHead(416, { "Content-Range": `bytes */${bytes.length}` }).end();
    else
      response
        .writeHead(206, { "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}` })
        .end(bytes.subarray(start, kind === "short" && end > 1 ? end - 1 : end));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true });
});

const SOURCES: [string, () => FileSource][] = [
  ["memorySource", () => memorySource(FILES)],
  ["folderSource", () => folderSource(join(folder, "model"))],
  ["httpSource with ranges", () => httpSource(`${url}/ranges`)],
  ["httpSource without ranges", () => httpSource(`${url}/plain/`)],
];

describe.each(SOURCES)("%s", (name, make) => {
  it("finds, lists and reads texts", async () => {
    const source = make();
    expect([await source.has("config.json"), await source.has("none.json")]).toEqual([true, false]);
    expect(await source.readText("config.json")).toBe('{"größe":1}');
    expect(await source.readText("empty.bin")).toBe("");
    expect(await source.list()).toEqual(name.startsWith("http") ? ["config.json"] : Object.keys(FILES).sort());
    await expect(source.readText("latin.json")).rejects.toThrow(/UTF-8/);
  });

  it("reads at any offset, and not beyond the end", async () => {
    const file = await make().open("big.bin");
    expect(file.size).toBe(BIG.length);
    for (const [offset, length] of [
      [0, 10],
      [5_000_000, 5_000_000],
      [10, 1_000_000],
      [9_999_999, 1],
      [3, 0],
    ] as const) {
      const target = new Uint8Array(length);
      await file.read(offset, target);
      expect(target.every((byte, i) => byte === BIG[offset + i])).toBe(true);
    }
    await expect(file.read(9_999_990, new Uint8Array(11))).rejects.toThrow(/truncated or damaged/);
    await file.close();
  });

  it("refuses missing files and names that leave the folder", async () => {
    await expect(make().open("none.json")).rejects.toThrow(CheckpointError);
    for (const bad of ["../config.json", "/etc/passwd", "a/b", "..", "", "C:x", "a\\b", "a\0b"])
      await expect(make().open(bad)).rejects.toThrow(/plain/);
  });
});

describe("folderSource", () => {
  it("says what is missing", async () => {
    await expect(folderSource(join(folder, "none")).list()).rejects.toThrow(/cannot read the folder/);
    await expect(folderSource(join(folder, "model")).open("x.json")).rejects.toThrow(
      /no such file; the folder holds "big\.bin", "config\.json"/,
    );
    await expect(folderSource(join(folder, "model")).open("sub")).rejects.toThrow(/is not a file/);
  });
});

describe("httpSource", () => {
  it("reads ahead: small reads in order cost one request", async () => {
    const file = await httpSource(`${url}/ranges`).open("big.bin");
    asked.length = 0;
    for (let i = 0; i < 40; i++) await file.read(i * 100_000, new Uint8Array(100_000));
    expect(asked).toEqual(["bytes=0-4194303"]);
  });

  it("takes a start page for a missing file, and reports failing servers", async () => {
    expect(await httpSource(`${url}/spa`).has("none.json")).toBe(false);
    await expect(httpSource(`${url}/failing`).open("config.json")).rejects.toThrow(/status 500/);
    const file = await httpSource(`${url}/short`).open("big.bin");
    await expect(file.read(0, new Uint8Array(100))).rejects.toThrow(/broke off/);
    await expect(httpSource("http://127.0.0.1:1/").has("a")).rejects.toThrow(/cannot be reached/);
  });
});

describe("openSource", () => {
  it("takes folders and URLs", async () => {
    expect(await (await openSource(join(folder, "model"))).has("config.json")).toBe(true);
    expect(await (await openSource(`${url}/ranges`)).has("config.json")).toBe(true);
  });

  it("says what a name should be", async () => {
    for (const bad of ["", "gpt2", "./none", "/none/x", "a/b/c", "a/../b", "C:\\none"])
      await expect(openSource(bad)).rejects.toThrow(/no folder .* "owner\/name"/);
    await expect(openSource(join(folder, "model", "config.json"))).rejects.toThrow(/Give the folder/);
  });
});
