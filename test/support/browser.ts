// A headless Chromium with a page that is cross-origin isolated, the library bundled into its worker, and files over HTTP.
import { createReadStream, existsSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import type { IncomingMessage, OutgoingHttpHeaders, Server, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { build } from "vite";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
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
  /** Sends a request to test/browser/worker.ts and waits for its answer. */
  ask(request: Record<string, unknown>): Promise<Record<string, unknown>>;
  version: string;
  close(): Promise<void>;
}

/** @param folders what the server offers beside the page: name in the address -> folder on disk */
export async function openBrowserWorker(folders: Readonly<Record<string, string>>): Promise<BrowserWorker> {
  const bundle = await bundleWorker();
  const server = await serve({ ...folders, bundle });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  const page = await browser.newPage();
  await page.goto(`${origin}/`);
  return {
    version: browser.version(),
    ask: (request) =>
      page.evaluate(
        ({ request, origin }) =>
          new Promise<Record<string, unknown>>((resolve, reject) => {
            const worker = new Worker("/bundle/worker.js", { type: "module" });
            worker.addEventListener("error", (event) => reject(new Error(event.message)));
            worker.addEventListener(
              "message",
              ({ data }: MessageEvent<{ result?: Record<string, unknown>; error?: string }>) => {
                worker.terminate();
                if (data.result) resolve(data.result);
                else reject(new Error(data.error));
              },
            );
            worker.postMessage({ ...request, url: `${origin}/${String(request.folder)}/` });
          }),
        { request, origin },
      ),
    async close() {
      await browser.close();
      server.close();
      await rm(bundle, { recursive: true, force: true });
    },
  };
}

async function bundleWorker(): Promise<string> {
  const outDir = await mkdtemp(join(tmpdir(), "mamba-browser-"));
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
      rollupOptions: {
        input: fileURLToPath(new URL("../browser/worker.ts", import.meta.url)),
        output: { entryFileNames: "worker.js" },
      },
    },
  });
  return outDir;
}

/** Serves folders with the two headers that make a page cross-origin isolated, and ranges of bytes. */
function serve(folders: Readonly<Record<string, string>>): Promise<Server> {
  const isolation = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cache-control": "no-store",
  };
  const server = createServer((request, response) => {
    const [, name, ...rest] = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname).split("/");
    const path = name in folders ? join(folders[name], normalize(rest.join("/"))) : "";
    if (name === "") response.writeHead(200, { ...isolation, "content-type": "text/html" }).end(PAGE);
    else if (!path || !existsSync(path) || !statSync(path).isFile()) response.writeHead(404, isolation).end();
    else sendFile(path, request, response, isolation);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

function sendFile(
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  isolation: OutgoingHttpHeaders,
): void {
  const { size } = statSync(path);
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
  const type = TYPES[extname(path)] ?? "application/octet-stream";
  const headers = { ...isolation, "content-type": type, "content-length": end - start + 1, "accept-ranges": "bytes" };
  const ranged = { ...headers, "content-range": `bytes ${start}-${end}/${size}` };
  response.writeHead(range ? 206 : 200, range ? ranged : headers);
  if (request.method === "HEAD") response.end();
  else createReadStream(path, { start, end }).pipe(response);
}
