// The library as Vite bundles it for a page: nothing of Node in it, no package `webgpu`, no warnings, and a size to hold.
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { beforeAll, expect, it } from "vitest";
import { build, createLogger } from "vite";

/** All code that a page loads at once, compressed. What grows it must be worth it. */
const MOST_KIBIBYTES = 130;

const root = fileURLToPath(new URL("../../", import.meta.url));
const entry = fileURLToPath(new URL("../../dist/index.js", import.meta.url));
const warnings: string[] = [];
/** Of each file: its code (empty for what is no script) and what it imports, from outside or beside it; atOnce: not later. */
let files: { fileName: string; code: string; imports: string[]; atOnce: string[]; isEntry: boolean }[];

beforeAll(async () => {
  if (!existsSync(entry)) throw new Error(`${entry} is missing: run "npm run build" first, as "npm test" does.`);
  const logger = createLogger("warn");
  const warn = (message: string): void => void warnings.push(message);
  Object.assign(logger, { warn, warnOnce: warn });
  const result = await build({
    configFile: false,
    logLevel: "warn",
    customLogger: logger,
    root,
    build: {
      write: false,
      target: "es2022",
      assetsInlineLimit: 0,
      rollupOptions: { input: entry, preserveEntrySignatures: "strict" },
    },
  });
  if (!("output" in result)) throw new Error("vite.build gave no output.");
  files = result.output.map((file) =>
    file.type === "chunk"
      ? {
          fileName: file.fileName,
          code: file.code,
          imports: [...file.imports, ...file.dynamicImports],
          atOnce: file.imports,
          isEntry: file.isEntry,
        }
      : { fileName: file.fileName, code: "", imports: [], atOnce: [], isEntry: false },
  );
});

it("imports nothing of Node and no package, and Vite has nothing to warn of", () => {
  const names = new Set(files.map(({ fileName }) => fileName));
  const imports = files.flatMap((file) => file.imports);
  expect(imports.filter((name) => !names.has(name))).toEqual([]);
  for (const { code } of files) expect(code).not.toMatch(/(from|import|require)\s*\(?\s*["'`](node:|webgpu\b)/);
  expect(warnings).toEqual([]);
});

it("holds the kernels of WASM as files, and is small", () => {
  const wasm = files.filter(({ fileName }) => fileName.endsWith(".wasm"));
  expect(wasm).toHaveLength(2);
  const atOnce = new Set(files.filter(({ isEntry }) => isEntry));
  for (const { atOnce: names } of atOnce)
    for (const name of names) atOnce.add(files.find(({ fileName }) => fileName === name)!);
  const bytes = [...atOnce].reduce((sum, { code }) => sum + gzipSync(code).length, 0);
  expect(bytes / 1024).toBeLessThan(MOST_KIBIBYTES);
});

it("leaves out every module that works in Node alone", async () => {
  const sources = await readdir(new URL("../../src/", import.meta.url), { recursive: true });
  const nodeOnly = sources
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith("-node.ts"))
    .map((path) => `./dist/${path.replace(/\.ts$/, ".js")}`);
  const { browser } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as {
    browser: Record<string, false>;
  };
  expect(Object.keys(browser).toSorted()).toEqual(nodeOnly.toSorted());
});
