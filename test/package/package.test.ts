// The package as a user gets it: packed, installed into an empty project, used from a script and from npx.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
const npm = process.platform === "win32" ? "npm.cmd" : "npm";
let project: string;
let files: string[];

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), "mamba-package-"));
  const { stdout } = await run(npm, ["pack", "--json", "--ignore-scripts", "--pack-destination", project], {
    cwd: root,
  });
  const [pack] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
  files = pack.files.map(({ path }) => path);
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  await run(
    npm,
    ["install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", join(project, pack.filename)],
    { cwd: project },
  );
});

afterAll(() => rm(project, { recursive: true, force: true }));

it("holds the built library, the kernels and the default model, and no sources or tests", () => {
  expect(files).toEqual(
    expect.arrayContaining([
      "dist/index.js",
      "dist/index.d.ts",
      "dist/cli/main.js",
      "kernels/build/relaxed.wasm",
      "kernels/build/simd.wasm",
      "assets/default-model/model.safetensors",
    ]),
  );
  expect(files.filter((path) => /\.test\.|^src\/|^test\//.test(path))).toEqual([]);
});

it("works from a script", async () => {
  await writeFile(
    join(project, "script.js"),
    `import { Mamba } from "mamba.ts";
     const mamba = await Mamba.load();
     const { tokens } = await mamba.complete("The sea", { maxTokens: 8, temperature: 0 });
     console.log(tokens.length);`,
  );
  const { stdout } = await run(process.execPath, ["script.js"], { cwd: project });
  expect(stdout.trim()).toBe("8");
});

it("asks for the package webgpu where the device webgpu is wanted without it", async () => {
  await writeFile(
    join(project, "webgpu.js"),
    `import { openDevice } from "mamba.ts";
     console.log((await openDevice("auto")).name);
     await openDevice("webgpu").catch(({ name, message }) => console.log(name, message));
     process.exit(0);`,
  );
  const { stdout } = await run(process.execPath, ["webgpu.js"], { cwd: project });
  expect(stdout.trim().split("\n")).toEqual([
    "wasm",
    "BackendError webgpu: in Node this device needs the package webgpu. Run: npm install webgpu; or use --device wasm.",
  ]);
});

it("works from npx mamba", async () => {
  const args = [
    "--no-install",
    "mamba",
    "generate",
    "--device",
    "wasm",
    "--prompt",
    "The sea",
    "--max-tokens",
    "8",
    "--temperature",
    "0",
    "--json",
  ];
  const { stdout } = await run(process.platform === "win32" ? "npx.cmd" : "npx", args, { cwd: project });
  expect(JSON.parse(stdout)).toMatchObject({ promptTokens: 7, device: "wasm", dtype: "f32" });
});
