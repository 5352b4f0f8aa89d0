// What doctor finds out about the wasm device: its builds, its threads, the self-test, the time of a kernel call.
import type { WasmBuild } from "../../../backends/wasm/index.ts";
import { WasmBackend } from "../../../backends/wasm/index.ts";
import { BYTES_PER_ELEMENT } from "../../../core/dtype.ts";
import { defined } from "../../options.ts";
import { OP_SAMPLES } from "./op-samples.ts";
import type { OpReport } from "./self-test.ts";
import { selfTest } from "./self-test.ts";

export interface BuildReport {
  readonly build: WasmBuild;
  readonly isUsed: boolean;
  /** Why it is not used; undefined when it is. */
  readonly reason?: string;
  /** Empty when it does not run here. */
  readonly ops: readonly OpReport[];
}

export interface WasmReport {
  /** 0: it does not run here. */
  readonly threads: number;
  readonly hasRelaxedSimd: boolean;
  readonly builds: readonly BuildReport[];
  /** Microseconds of one kernel call that does next to nothing: on the calling thread alone, and shared by all threads. */
  readonly dispatchMicroseconds: { readonly serial: number; readonly shared: number } | null;
}

const BUILDS: readonly WasmBuild[] = ["relaxed", "simd"];

export async function examineWasm(threads: number | undefined): Promise<WasmReport> {
  const options = defined({ threads });
  const used = await WasmBackend.create(options).catch(() => undefined);
  const dispatchMicroseconds = used ? measureDispatch(used) : null;
  const builds: BuildReport[] = [];
  for (const build of BUILDS) builds.push(await examineBuild(build, used?.build, options));
  used?.dispose();
  return {
    threads: used?.threads ?? 0,
    hasRelaxedSimd: builds.some(({ build, ops }) => build === "relaxed" && ops.length > 0),
    builds,
    dispatchMicroseconds,
  };
}

async function examineBuild(
  build: WasmBuild,
  used: WasmBuild | undefined,
  options: { threads?: number },
): Promise<BuildReport> {
  try {
    const ops = await selfTest(OP_SAMPLES, { backend: await WasmBackend.create({ ...options, build }) });
    if (build === used) return { build, isUsed: true, ops };
    return { build, isUsed: false, reason: "it runs here, but the relaxed build is faster", ops };
  } catch (error) {
    return { build, isUsed: false, reason: error instanceof Error ? error.message : String(error), ops: [] };
  }
}

const DISPATCHES = 2000;
const ROUNDS = 10;

/** Clears a cache line again and again; the best of some rounds, since the first ones are compiled while they run. */
function measureDispatch(backend: WasmBackend): { serial: number; shared: number } {
  const count = 16;
  const storage = backend.allocate("f32", count);
  const args = [storage.pointer, count * BYTES_PER_ELEMENT.f32];
  const time = (isSerial: boolean): number => {
    const started = performance.now();
    for (let i = 0; i < DISPATCHES; i++) backend.dispatch("clear", args, isSerial);
    return ((performance.now() - started) * 1000) / DISPATCHES;
  };
  let [serial, shared] = [Infinity, Infinity];
  for (let round = 0; round < ROUNDS; round++) {
    serial = Math.min(serial, time(true));
    shared = Math.min(shared, time(false));
  }
  backend.release(storage);
  return { serial, shared };
}
