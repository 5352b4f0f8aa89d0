// All WGSL is compiled by Dawn's null backend, which needs no GPU: every sample of every family of kernels.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { findAdapter, WANTED_FEATURES } from "../../src/backends/webgpu/adapter.ts";
import type { Kernel } from "../../src/backends/webgpu/kernel.ts";
import { KERNEL_FAMILIES } from "../../src/backends/webgpu/kernel.ts";
import { Failures } from "../../src/backends/webgpu/failures.ts";
import { Pipelines } from "../../src/backends/webgpu/pipelines.ts";

const SOURCES = fileURLToPath(new URL("../../src/", import.meta.url));

/** Modules that define kernels, found by their text, so that none is forgotten. */
async function importAllKernels(): Promise<void> {
  const files = readdirSync(SOURCES, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(SOURCES, file))
    .filter((file) => /= defineKernel\b/.test(readFileSync(file, "utf8")));
  for (const file of files) await import(/* @vite-ignore */ pathToFileURL(file).href);
}

async function openNullDevice(): Promise<GPUDevice> {
  const adapter = await findAdapter({ toggles: ["backend=null"] });
  const { maxStorageBuffersPerShaderStage } = adapter.limits;
  const features = WANTED_FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[];
  return adapter.requestDevice({ requiredFeatures: features, requiredLimits: { maxStorageBuffersPerShaderStage } });
}

/** What the null backend does not offer, though WGSL for it is valid: more buffers, larger workgroups, shapes of matrices. */
const BEYOND_THE_DEVICE = [
  /number of storage buffers .* exceeds/i,
  /total number of workgroup invocations .* exceeds|workgroup size .* exceeds|workgroup invocations/i,
  /workgroup storage/i,
  /subgroup.?matrix/i,
];

/** Compiles a kernel as far as the device goes. @returns what of it was not compiled, and why */
async function compile(device: GPUDevice, kernel: Kernel): Promise<string | undefined> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: kernel.name, code: kernel.code });
  const { messages } = await module.getCompilationInfo();
  await device.popErrorScope();
  const errors = messages.filter(({ type }) => type === "error");
  if (errors.length > 0) throw new Error(errors.map((error) => explain(kernel, error)).join("\n"));
  try {
    await pipelines.compileAhead([kernel]);
    return undefined;
  } catch (error) {
    const { message } = error as Error;
    if (!BEYOND_THE_DEVICE.some((pattern) => pattern.test(message))) throw error;
    return `${kernel.name}: its WGSL is valid; no pipeline: ${message.split(": ").slice(2).join(": ").split("\n")[0]}`;
  }
}

function explain({ name, code }: Kernel, { lineNum, linePos, message }: GPUCompilationMessage): string {
  const lines = code.split("\n");
  const around = lines.slice(Math.max(0, lineNum - 3), lineNum).map((line, i, all) => {
    const number = lineNum - all.length + 1 + i;
    return `${String(number).padStart(5)} | ${line}`;
  });
  return [`${name}, line ${lineNum}: ${message}`, ...around, `${" ".repeat(7 + linePos)}^`].join("\n");
}

await importAllKernels();
const device = await openNullDevice();
const pipelines = new Pipelines(device, new Failures(device));

describe("WGSL", () => {
  it("comes from families with names of their own, and samples", () => {
    const names = KERNEL_FAMILIES.map(({ familyName }) => familyName);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
    expect(KERNEL_FAMILIES.filter(({ samples }) => samples.length === 0).map(({ familyName }) => familyName)).toEqual(
      [],
    );
  });

  for (const family of KERNEL_FAMILIES)
    it(`${family.familyName} compiles`, async ({ annotate }) => {
      for (const spec of family.samples) {
        const lacking = await compile(device, family(spec));
        if (lacking) await annotate(lacking);
      }
    });

  it("is refused with the family, the specification and the line", async () => {
    const wrong = { ...KERNEL_FAMILIES[0](KERNEL_FAMILIES[0].samples[0]), name: "wrong {n:1}" };
    const lines = wrong.code.split("\n");
    const code = [...lines, "fn f() -> u32 {", "  return nonsense;", "}"].join("\n");
    await expect(compile(device, { ...wrong, id: -1, code })).rejects.toThrow(
      `wrong {n:1}, line ${lines.length + 2}: unresolved value 'nonsense'`,
    );
  });
});
