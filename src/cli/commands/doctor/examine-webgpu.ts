// What doctor finds out about the webgpu device: the adapter, its features and limits, the self-test of every path, speeds.
import type { GpuFeature, MatrixShape } from "../../../backends/webgpu/index.ts";
import { WebGpuBackend } from "../../../backends/webgpu/index.ts";
import { BackendError } from "../../../core/errors.ts";
import type { GpuSpeed } from "./measure-gpu.ts";
import { measureGpu } from "./measure-gpu.ts";
import type { Precision } from "./op-sample.ts";
import { OP_SAMPLES } from "./op-samples.ts";
import type { OpReport, TestedDevice } from "./self-test.ts";
import { selfTest } from "./self-test.ts";

/** The self-test of one way through the kernels. */
export interface PathReport {
  /** full: with all features of the adapter. portable: without those that are optional in WebGPU, as on plainer GPUs. */
  readonly path: "full" | "portable";
  readonly precision: Precision;
  readonly ops: readonly OpReport[];
}

export interface WebGpuReport {
  readonly adapter: {
    readonly vendor: string;
    readonly architecture: string;
    readonly description: string;
    /** Whether the processor emulates it; then `auto` does not choose it. */
    readonly isSoftware: boolean;
  };
  readonly features: Readonly<Record<GpuFeature, boolean>>;
  /** Threads that run in step, at least and at most; null without the feature. */
  readonly subgroupSize: readonly [number, number] | null;
  readonly matrixShapes: readonly MatrixShape[];
  readonly limits: GpuLimits;
  readonly speed: GpuSpeed;
  readonly paths: readonly PathReport[];
}

export interface GpuLimits {
  /** Of one buffer. */
  readonly bufferBytes: number;
  /** Of what one kernel sees of a tensor; larger tensors are cut by rows. */
  readonly bindingBytes: number;
  readonly storageBuffers: number;
  readonly workgroupThreads: number;
  readonly workgroupBytes: number;
}

/** Why there is no such device here. */
export interface Absent {
  readonly problem: string;
}

/** Optional features that kernels choose a path by, apart from float16. */
const PATH_FEATURES: readonly GpuFeature[] = ["subgroups", "chromium-experimental-subgroup-matrix"];

export async function examineWebGpu(): Promise<WebGpuReport | Absent> {
  try {
    const backend = await WebGpuBackend.create();
    const report = { ...describeGpu(backend), speed: await measureGpu(backend) };
    backend.dispose();
    return { ...report, paths: await testPaths(report.features) };
  } catch (error) {
    if (error instanceof BackendError) return { problem: error.message };
    throw error;
  }
}

function describeGpu(backend: WebGpuBackend): Omit<WebGpuReport, "speed" | "paths"> {
  const { vendor, architecture, description, isSoftware, subgroupSize, matrixShapes } = backend.about;
  const { limits } = backend.device;
  return {
    adapter: { vendor, architecture, description, isSoftware },
    features: {
      "shader-f16": backend.has("shader-f16"),
      subgroups: backend.has("subgroups"),
      "timestamp-query": backend.has("timestamp-query"),
      "chromium-experimental-subgroup-matrix": backend.has("chromium-experimental-subgroup-matrix"),
    },
    subgroupSize: backend.has("subgroups") ? subgroupSize : null,
    matrixShapes,
    limits: {
      bufferBytes: limits.maxBufferSize,
      bindingBytes: backend.maxBindingBytes,
      storageBuffers: limits.maxStorageBuffersPerShaderStage,
      workgroupThreads: limits.maxComputeInvocationsPerWorkgroup,
      workgroupBytes: limits.maxComputeWorkgroupStorageSize,
    },
  };
}

/** Every path that is another one here. Subgroups serve sums, float32 in both precisions; matrices serve float16. */
async function testPaths(features: WebGpuReport["features"]): Promise<PathReport[]> {
  const paths: Pick<PathReport, "path" | "precision">[] = [{ path: "full", precision: "f32" }];
  if (features["shader-f16"]) paths.push({ path: "full", precision: "f16" });
  if (features.subgroups) paths.push({ path: "portable", precision: "f32" });
  if (features["chromium-experimental-subgroup-matrix"]) paths.push({ path: "portable", precision: "f16" });
  const reports: PathReport[] = [];
  for (const { path, precision } of paths) {
    const device = await openTested(path === "portable" ? PATH_FEATURES : []);
    reports.push({ path, precision, ops: await selfTest(OP_SAMPLES, device, precision) });
  }
  return reports;
}

async function openTested(without: readonly GpuFeature[]): Promise<TestedDevice> {
  return { backend: await WebGpuBackend.create({ without }), reopen: () => openTested(without) };
}
