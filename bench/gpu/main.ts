// Measures mamba.ts on a GPU: `npm run bench:gpu` makes one file of this that runs with nothing beside it but the npm
// package `webgpu`: node bench-gpu.mjs [TAG or part of a name ...] [--out FILE] [--toggles a,b] [--list]
// Prints a line a case on stderr and everything as JSON on stdout.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { GpuOptions } from "../../src/backends/webgpu/index.ts";
import { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { CASES } from "./cases.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: "string" },
    toggles: { type: "string" },
    list: { type: "boolean" },
  },
});

const chosen = CASES.filter(
  ({ name, tags }) =>
    positionals.length === 0 || positionals.some((word) => tags.includes(word) || name.includes(word)),
);

/** Each case gets a device of its own, so that one that fails does not take the others along. */
async function runCase(gpuCase: GpuCase, options: GpuOptions): Promise<readonly Numbers[]> {
  const backend = await WebGpuBackend.create(options);
  try {
    const result = await gpuCase.run(backend);
    await backend.finish();
    return Array.isArray(result) ? (result as readonly Numbers[]) : [result as Numbers];
  } catch (error) {
    return [{ failed: String(error) }];
  } finally {
    backend.dispose();
  }
}

async function main(): Promise<void> {
  const toggles = values.toggles ? [`enable-dawn-features=${values.toggles}`] : [];
  const options: GpuOptions = { toggles };
  const first = await WebGpuBackend.create(options);
  const { vendor, architecture, description, matrixShapes, subgroupSize } = first.about;
  const device = { vendor, architecture, description, features: [...first.about.features], subgroupSize, matrixShapes };
  first.dispose();
  const results: { name: string; results: readonly Numbers[] }[] = [];
  const report = (): string =>
    JSON.stringify({ date: new Date().toISOString(), node: process.version, device, toggles, results }, undefined, 1);
  for (const gpuCase of chosen) {
    const started = performance.now();
    const numbers = await runCase(gpuCase, options);
    results.push({ name: gpuCase.name, results: numbers });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    for (const line of numbers) console.error(`${gpuCase.name}: ${JSON.stringify(line)} [${seconds} s]`);
    if (values.out) writeFileSync(values.out, report());
  }
  if (!values.out) console.log(report());
}

if (values.list) for (const { name, tags } of chosen) console.log(`${name} [${tags.join(" ")}]`);
else await main();
process.exit(0);
