// Dawn in Node: the npm package `webgpu`, an optional peer dependency, found by itself.
import { BackendError } from "../../core/errors.ts";

interface DawnModule {
  create(options: readonly string[]): GPU;
}

/** A name that bundlers do not follow: the package is only there where somebody installed it. */
const PACKAGE: string = "webgpu";
const made = new Map<string, GPU>();

/** Dawn's entry object, one for each list of options. @param kept what holds it for ever: a collected one crashes the process */
export async function createDawn(options: readonly string[], kept: Set<unknown>): Promise<GPU> {
  const key = options.join(" ");
  let gpu = made.get(key);
  if (!gpu) {
    gpu = (await loadDawn()).create(options);
    made.set(key, gpu);
    kept.add(gpu);
  }
  return gpu;
}

async function loadDawn(): Promise<DawnModule> {
  try {
    return (await import(/* @vite-ignore */ PACKAGE)) as DawnModule;
  } catch (cause) {
    const isAbsent = (cause as { code?: string }).code === "ERR_MODULE_NOT_FOUND";
    throw new BackendError(
      isAbsent
        ? "webgpu: in Node this device needs the package webgpu. Run: npm install webgpu; or use --device wasm."
        : `webgpu: the package webgpu could not be loaded (${(cause as Error).message}). Is there a build for ${process.platform}-${process.arch}? Else use --device wasm.`,
      { cause },
    );
  }
}
