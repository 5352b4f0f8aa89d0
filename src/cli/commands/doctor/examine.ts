// What doctor finds out: the machine, its devices, and what of them is left out.
import type { MatrixShape } from "../../../backends/webgpu/index.ts";
import type { Machine } from "../../machine.ts";
import { describeMachine } from "../../machine.ts";
import { readVersion } from "../../version.ts";
import type { WasmReport } from "./examine-wasm.ts";
import { examineWasm } from "./examine-wasm.ts";
import type { Absent, WebGpuReport } from "./examine-webgpu.ts";
import { examineWebGpu } from "./examine-webgpu.ts";

/** Side of the matrices that the kernels of linear give to matrix units. */
const MATRIX = 16;

/** Devices that doctor examines. */
export type ExaminedDevice = "wasm" | "webgpu";
export const EXAMINED_DEVICES: readonly ExaminedDevice[] = ["wasm", "webgpu"];

export interface Diagnosis {
  readonly version: string;
  readonly machine: Machine;
  /** What `--device auto` chooses; null where not both devices were examined. */
  readonly auto: ExaminedDevice | null;
  readonly wasm: WasmReport | null;
  readonly webgpu: WebGpuReport | Absent | null;
  /** What this machine could have and does not use, and why. */
  readonly leftOut: readonly LeftOut[];
  readonly isGood: boolean;
}

interface LeftOut {
  readonly what: string;
  readonly why: string;
}

export interface ExamineOptions {
  /** Default: all that are here. A device that is named must be here. */
  readonly device?: ExaminedDevice | undefined;
  readonly threads?: number | undefined;
}

export async function examine({ device, threads }: ExamineOptions): Promise<Diagnosis> {
  const machine = describeMachine();
  const wasm = device === "webgpu" ? null : await examineWasm(threads);
  const webgpu = device === "wasm" ? null : await examineWebGpu();
  const hasGpu = webgpu !== null && !("problem" in webgpu);
  return {
    version: readVersion(),
    machine,
    auto: wasm && webgpu ? (hasGpu && !webgpu.adapter.isSoftware ? "webgpu" : "wasm") : null,
    wasm,
    webgpu,
    leftOut: [...(wasm ? leftOutOfWasm(wasm, machine) : []), ...(webgpu ? leftOutOfWebGpu(webgpu) : [])],
    isGood: (!wasm || isWasmGood(wasm)) && (hasGpu ? isWebGpuGood(webgpu) : device !== "webgpu"),
  };
}

function isWasmGood({ threads, builds }: WasmReport): boolean {
  return threads > 0 && builds.every(({ ops }) => ops.every(({ isGood }) => isGood));
}

function isWebGpuGood({ paths }: WebGpuReport): boolean {
  return paths.every(({ ops }) => ops.every(({ isGood }) => isGood));
}

function leftOutOfWasm({ builds, threads }: WasmReport, { cores }: Machine): LeftOut[] {
  const found = builds
    .filter(({ ops }) => ops.length === 0)
    .map(({ build, reason }) => ({ what: build === "relaxed" ? "relaxed SIMD" : "SIMD", why: reason ?? "unknown" }));
  if (cores > threads && threads > 0)
    found.push({
      what: `${cores - threads} of ${cores} cores`,
      why: "8 threads at the most unless --threads says otherwise; more gain little, because memory is the limit",
    });
  if (cores === 1) found.push({ what: "threads", why: "there is one core" });
  found.push({ what: "memory above 4 GiB", why: "WebAssembly addresses have 32 bits; a GPU has its own memory" });
  return found;
}

const WITHOUT = {
  "shader-f16": {
    what: "float16 on the GPU",
    why: "the adapter has no shader-f16; activations and weights stay float32",
  },
  subgroups: { what: "subgroups", why: "the adapter has none; sums go through workgroup memory" },
  "chromium-experimental-subgroup-matrix": {
    what: "subgroup matrices",
    why: "the adapter has none; products run in plain tiles",
  },
  "timestamp-query": {
    what: "GPU time stamps",
    why: "the adapter has no timestamp-query; times are seen from the host",
  },
} as const;

function isUsedShape({ M, N, K, componentType, resultComponentType }: MatrixShape): boolean {
  return [M, N, K].every((size) => size === MATRIX) && componentType === "f16" && resultComponentType === "f32";
}

function leftOutOfWebGpu(report: WebGpuReport | Absent): LeftOut[] {
  if ("problem" in report) return [{ what: "webgpu", why: report.problem.replace(/^webgpu: /, "") }];
  const found: LeftOut[] = Object.entries(WITHOUT).flatMap(([feature, text]) =>
    report.features[feature as keyof typeof WITHOUT] ? [] : [text],
  );
  if (report.matrixShapes.length > 0 && !report.matrixShapes.some(isUsedShape))
    found.push({
      what: "subgroup matrices",
      why: "none of the adapter's shapes is float16 16×16×16 into float32, which the kernels are written for",
    });
  if (report.adapter.isSoftware)
    found.push({
      what: "the GPU adapter, for auto",
      why: "the processor emulates it, slower than wasm; --device webgpu takes it all the same",
    });
  return found;
}
