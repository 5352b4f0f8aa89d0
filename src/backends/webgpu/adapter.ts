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
  /** Which GPU of several. Default "high-performance". */
  powerPreference?: GPUPowerPreference;
  /**
   * A part of the adapter's name, Node only: "NVIDIA", or "llvmpipe" for an emulated one. Default: the environment
   * variable MAMBA_GPU, else the first that is found.
   */
  adapter?: string | undefined;
  /** Features to do without though the adapter has them: to test the portable paths. */
  without?: readonly GpuFeature[];
  /** Features that must be there, else a BackendError names what is missing. */
  require?: readonly GpuFeature[];
  /** Bytes of a storage binding at the most, below the adapter's own limit: to test what is split. */
  maxBindingBytes?: number;
  /** Bytes of device memory to hold at the most. Default: until the device refuses. */
  maxMemoryBytes?: number;
  /** Options of Dawn's create(), Node only: for measurements ("enable-dawn-features=..."), and "backend=null". */
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
  /** Whether errors arrive within the call that makes them. */
  readonly reportsAtOnce: boolean;
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
  const adapter = await findAdapter(options);
  const features = chooseFeatures(adapter, options);
  const requiredLimits: Record<string, number> = {};
  for (const limit of RAISED_LIMITS) if (adapter.limits[limit]) requiredLimits[limit] = adapter.limits[limit];
  const device = await adapter
    .requestDevice({ label: "mamba.ts", requiredFeatures: features as GPUFeatureName[], requiredLimits })
    .catch((cause: unknown) => {
      throw new BackendError(`webgpu: ${nameOf(adapter)} gives no device: ${(cause as Error).message}`, { cause });
    });
  kept.add(device);
  void device.lost.then(() => kept.delete(device));
  return { device, about: describe(adapter, features), reportsAtOnce: !navigatorGpu() };
}

/** Whether there is a GPU, and one that is not emulated by the processor. Makes no device. */
export async function hasRealGpu(options: GpuOptions = {}): Promise<boolean> {
  try {
    if (isNode() && !(await import("./gpu-hardware-node.ts")).mayHaveGpu()) return false;
    return !isSoftware(await findAdapter(options));
  } catch (error) {
    if (error instanceof BackendError) return false;
    throw error;
  }
}

/** The adapter that these options choose. @throws BackendError that says what to do when there is none */
export async function findAdapter(options: GpuOptions = {}): Promise<GPUAdapter> {
  const gpu = await findGpu(options);
  const { powerPreference = "high-performance" } = options;
  let cause: unknown;
  const adapter = await gpu.requestAdapter({ powerPreference }).catch((error: unknown) => {
    cause = error;
  });
  if (adapter) return adapter;
  const details = cause ? ` (${(cause as Error).message.trim().replaceAll(/\s*\n[\s*]*/g, "; ")})` : "";
  throw new BackendError(
    `webgpu: there is no GPU adapter here${details}. Install a Vulkan, Metal or Direct3D 12 driver, or use --device wasm.`,
    { cause },
  );
}

function chooseFeatures(adapter: GPUAdapter, { require = [], without = [] }: GpuOptions): GpuFeature[] {
  const both = require.filter((feature) => without.includes(feature));
  if (both.length > 0)
    throw new BackendError(`webgpu: ${both.join(", ")} cannot be required and done without. Give one of the two.`);
  const missing = require.filter((feature) => !adapter.features.has(feature));
  if (missing.length > 0)
    throw new BackendError(
      `webgpu: ${nameOf(adapter)} lacks ${missing.join(", ")}. It has: ${[...adapter.features].join(", ")}.`,
    );
  return WANTED_FEATURES.filter((feature) => adapter.features.has(feature) && !without.includes(feature));
}

type AdapterInfo = GPUAdapterInfo & {
  readonly subgroupMatrixConfigs?: Iterable<MatrixShape>;
  readonly isFallbackAdapter?: boolean;
};

function nameOf({ info }: GPUAdapter): string {
  return `the adapter (${describeModel(info) || info.vendor || "without a name"})`;
}

/** The model and the driver; a browser may keep either for itself. */
function describeModel({ device = "", description = "" }: Partial<GPUAdapterInfo>): string {
  const model = device.replace(/-+$/, "");
  return [description.includes(model) ? "" : model, description].filter(Boolean).join(", ");
}

/** Some browsers do not say it in isFallbackAdapter. */
function isSoftware({ info }: GPUAdapter): boolean {
  const { isFallbackAdapter, architecture, device, description } = info as AdapterInfo;
  return (
    (isFallbackAdapter ?? false) ||
    /swiftshader|software|llvmpipe|null-backend/i.test(`${architecture} ${device} ${description}`)
  );
}

function describe(adapter: GPUAdapter, features: readonly string[]): GpuDescription {
  const info = adapter.info as AdapterInfo;
  const hasMatrices = features.includes("chromium-experimental-subgroup-matrix");
  return {
    vendor: info.vendor,
    architecture: info.architecture,
    description: describeModel(info),
    isSoftware: isSoftware(adapter),
    features: new Set(features),
    subgroupSize: [info.subgroupMinSize ?? 0, info.subgroupMaxSize ?? 0],
    matrixShapes: hasMatrices ? [...(info.subgroupMatrixConfigs ?? [])].map(toMatrixShape) : [],
  };
}

function toMatrixShape({ M, N, K, componentType, resultComponentType }: MatrixShape): MatrixShape {
  return { M, N, K, componentType, resultComponentType };
}

/** What a browser page or worker (or a runtime like one) offers by itself. */
function navigatorGpu(): GPU | undefined {
  return (globalThis.navigator as { gpu?: GPU } | undefined)?.gpu;
}

function isNode(): boolean {
  return globalThis.process?.versions?.node !== undefined && !navigatorGpu();
}

async function findGpu({ adapter, toggles = [] }: GpuOptions): Promise<GPU> {
  const own = navigatorGpu();
  if (own) return own;
  if (!isNode())
    throw new BackendError(
      "webgpu: this browser has no WebGPU here. It needs a secure page (https or localhost) and a recent browser; or use the wasm device.",
    );
  const wanted = adapter ?? process.env["MAMBA_GPU"];
  const { createDawn } = await import("./dawn-node.ts");
  return createDawn(joinOptions([...DAWN_OPTIONS, ...(wanted ? [`adapter=${wanted}`] : []), ...toggles]), kept);
}

/** Options of one name as one, their values with commas between: Dawn takes only the last of a name. */
function joinOptions(options: readonly string[]): string[] {
  const values = new Map<string, string[]>();
  for (const option of options) {
    const [name, value] = option.split("=", 2);
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return [...values].map(([name, list]) => `${name}=${list.join(",")}`);
}
