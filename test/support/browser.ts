// A headless Chromium with two pages, one cross-origin isolated and one not, the library bundled into a worker of theirs,
// and files over HTTP.
import { createReadStream, existsSync, rmSync, statSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import type { IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { chromium } from "playwright-core";
import { build } from "vite";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** The pages below this name are not cross-origin isolated. */
const PLAIN = "plain";
const NOT_KEPT = { "cache-control": "no-store" };
const PAGE = "<!doctype html><title>mamba.ts</title>";
const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
  ".json": "application/json",
};

/** Whether a browser is there. CI requires one (REQUIRE_BROWSER=1); elsewhere its tests are skipped, and say so. */
export function hasBrowser(): boolean {
  return existsSync(CHROMIUM) || process.env.REQUIRE_BROWSER === "1";
}

export interface BrowserWorker {
  /**
   * Sends a request to test/browser/worker.ts and waits for its answer. Rejects with the message of an error there.
   * `isIsolated`: from the page that may share memory between threads; default true.
   */
  ask(request: Record<string, unknown>, options?: { isIsolated?: boolean }): Promise<Record<string, unknown>>;
  version: string;
  close(): Promise<void>;
}

export interface BrowserOptions {
  /** Whether pages get a WebGPU adapter: SwiftShader, which the processor emulates. Default true. */
  hasGpu?: boolean;
}

const LAUNCH_ARGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** @param folders what the server offers beside the pages: name in the address -> folder on disk */
export async function openBrowserWorker(
  folders: Readonly<Record<string, string>>,
  { hasGpu = true }: BrowserOptions = {},
): Promise<BrowserWorker> {
  const server = await serve({ ...folders, bundle: await bundleWorker() });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [...LAUNCH_ARGS, hasGpu ? "--enable-unsafe-webgpu" : "--disable-gpu"],
  });
  const openPage = async (path: string): Promise<Page> => {
    const page = await browser.newPage();
    await page.goto(`${origin}${path}`);
    return page;
  };
  const pages = { isolated: await openPage("/"), plain: await openPage(`/${PLAIN}/`) };
  return {
    version: browser.version(),
    ask: (request, { isIsolated = true } = {}) =>
      (isIsolated ? pages.isolated : pages.plain).evaluate(askWorker, {
        script: isIsolated ? "/bundle/worker.js" : `/${PLAIN}/bundle/worker.js`,
        request: { ...request, url: `${origin}/${String(request.folder)}/` },
      }),
    async close() {
      await browser.close();
      server.close();
    },
  };
}

/** Runs in a page: a new worker, one request, one answer. */
function askWorker({
  script,
  request,
}: {
  script: string;
  request: Record<string, unknown>;
}): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(script, { type: "module" });
    worker.addEventListener("error", (event) => reject(new Error(event.message)));
    worker.addEventListener(
      "message",
      ({ data }: MessageEvent<{ result?: Record<string, unknown>; error?: string }>) => {
        worker.terminate();
        if (data.result) resolve(data.result);
        else reject(new Error(data.error));
      },
    );
    worker.postMessage(request);
  });
}

let bundled: Promise<string> | undefined;

/** The folder of the bundle, made once a process, and removed when that ends. */
function bundleWorker(): Promise<string> {
  bundled ??= bundle();
  return bundled;
}

async function bundle(): Promise<string> {
  const outDir = await mkdtemp(join(tmpdir(), "mamba-browser-"));
  process.once("exit", () => rmSync(outDir, { recursive: true, force: true }));
  await build({
    configFile: false,
    logLevel: "error",
    root: fileURLToPath(new URL("../browser/", import.meta.url)),
    base: "/bundle/",
    build: {
      outDir,
      emptyOutDir: true,
      target: "es2022",
      assetsInlineLimit: 0,
      // It would ask for the document, which a worker has not; Vite leaves it out of workers that a page makes itself.
      modulePreload: false,
      rollupOptions: {
        input: fileURLToPath(new URL("../browser/worker.ts", import.meta.url)),
        output: { entryFileNames: "worker.js" },
      },
    },
  });
  return outDir;
}

/** Serves folders, and ranges of their bytes, with the two headers that make a page cross-origin isolated; below /plain/ without. */
function serve(folders: Readonly<Record<string, string>>): Promise<Server> {
  const isolation = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    ...NOT_KEPT,
  };
  const server = createServer((request, response) => {
    const parts = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname)
      .split("/")
      .slice(1);
    const isPlain = parts[0] === PLAIN;
    const headers = isPlain ? NOT_KEPT : isolation;
    const [name, ...rest] = isPlain ? parts.slice(1) : parts;
    const path = name in folders ? join(folders[name], normalize(rest.join("/"))) : "";
    if (name === "") response.writeHead(200, { ...headers, "content-type": "text/html" }).end(PAGE);
    else if (!path || !existsSync(path) || !statSync(path).isFile()) response.writeHead(404, headers).end();
    else sendFile(path, request, response, headers);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

function sendFile(path: string, request: IncomingMessage, response: ServerResponse, more: OutgoingHttpHeaders): void {
  const { size } = statSync(path);
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  const type = TYPES[extname(path)] ?? "application/octet-stream";
  const headers = { ...more, "content-type": type, "content-length": end - start + 1, "accept-ranges": "bytes" };
  const ranged = { ...headers, "content-range": `bytes ${start}-${end}/${size}` };
  response.writeHead(range ? 206 : 200, range ? ranged : headers);
  if (request.method === "HEAD") response.end();
  else createReadStream(path, { start, end }).pipe(response);
}
