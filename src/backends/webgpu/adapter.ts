// Finding a GPU: the browser's navigator.gpu, or in Node the npm package `webgpu` (Dawn); and what of it is asked for.
import { BackendError } from "../../core/errors.ts";

/** Features that kernels use where they are there. Each has a portable path beside it. */
export const WANTED_FEATURES = [
  "shader-f16",
  "subgroups",
  "timestamp-query",
  "chromium-experimental-subgroup-matrix",
] as const;

/** One of {@link WANTED_FEATURES}. */
export type GpuFeature = (typeof WANTED_FEATURES)[number];

/** Limits that are raised to what the adapter offers. */
const RAISED_LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupStorageSize",
] as const;

export interface GpuOptions {
  /** Features to do without though the adapter has them: to test the portable paths. */
  without?: readonly GpuFeature[];
  /** Features that must be there, else a BackendError names what is missing. */
  require?: readonly GpuFeature[];
  /** Bytes of a storage binding at the most, below the adapter's own limit: to test what is split. */
  maxBindingBytes?: number;
  /** Dawn's toggles, Node only: for measurements. */
  toggles?: readonly string[];
}

/** A shape of subgroup-matrix products that the device multiplies: left M×K times right K×N. */
export interface MatrixShape {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly componentType: string;
  readonly resultComponentType: string;
}

/** A device, and what is known of it. */
export interface OpenedGpu {
  readonly device: GPUDevice;
  readonly about: GpuDescription;
}

export interface GpuDescription {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  /** Whether it is emulated by the processor. */
  readonly isSoftware: boolean;
  readonly features: ReadonlySet<string>;
  readonly subgroupSize: readonly [least: number, most: number];
  readonly matrixShapes: readonly MatrixShape[];
}

const DAWN_OPTIONS = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
  "disable-dawn-features=timestamp_quantization",
];

/** Dawn crashes when its entry object, or a device, is collected while in use. */
const kept = new Set<unknown>();

/** Opens a device with all that kernels can use of it. Throws BackendError that says what is missing and what to do. */
export async function openGpu(options: GpuOptions = {}): Promise<OpenedGpu> {
  const gpu = await findGpu(options.toggles ?? []);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter)
    throw new BackendError(
      "webgpu: there is no GPU adapter here. Install a Vulkan, Metal or Direct3D 12 driver, or use --device wasm.",
    );
  const missing = (options.require ?? []).filter((feature) => !adapter.features.has(feature));
  if (missing.length > 0)
    throw new BackendError(
      `webgpu: the adapter (${adapter.info.description || adapter.info.vendor}) lacks ${missing.join(", ")}. It has: ${[...adapter.features].join(", ")}.`,
    );
  const features = WANTED_FEATURES.filter(
    (feature) => adapter.features.has(feature) && !options.without?.includes(feature),
  );
  const requiredLimits: Record<string, number> = {};
  for (const limit of RAISED_LIMITS) requiredLimits[limit] = adapter.limits[limit];
  const device = await adapter.requestDevice({
    label: "mamba.ts",
    requiredFeatures: features as GPUFeatureName[],
    requiredLimits,
  });
  kept.add(device);
  void device.lost.then(() => kept.delete(device));
  return { device, about: describe(adapter, features) };
}

function describe(adapter: GPUAdapter, features: readonly string[]): GpuDescription {
  const info = adapter.info as GPUAdapterInfo & {
    subgroupMatrixConfigs?: Iterable<MatrixShape>;
    isFallbackAdapter?: boolean;
  };
  const hasMatrices = features.includes("chromium-experimental-subgroup-matrix");
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: info.description || info.device,
    isSoftware: info.isFallbackAdapter ?? /swiftshader|software|llvmpipe/i.test(`${info.architecture} ${info.device}`),
    features: new Set(features),
    subgroupSize: [info.subgroupMinSize ?? 0, info.subgroupMaxSize ?? 0],
    matrixShapes: hasMatrices ? [...(info.subgroupMatrixConfigs ?? [])].map(toMatrixShape) : [],
  };
}

function toMatrixShape({ M, N, K, componentType, resultComponentType }: MatrixShape): MatrixShape {
  return { M, N, K, componentType, resultComponentType };
}

/** Whether this is a browser page or worker (or a runtime like one) that offers WebGPU by itself. */
function navigatorGpu(): GPU | undefined {
  return (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
}

async function findGpu(toggles: readonly string[]): Promise<GPU> {
  const own = navigatorGpu();
  if (own) return own;
  if (!globalThis.process?.versions?.node)
    throw new BackendError(
      "webgpu: this browser has no WebGPU here. It needs a secure page (https or localhost) and a recent browser; or use the wasm device.",
    );
  return (await import("./dawn-node.ts")).createDawn([...DAWN_OPTIONS, ...toggles], kept);
}
