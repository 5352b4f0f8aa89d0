// What doctor finds out: the machine, the builds of the kernels, the self-test, the time of a dispatch.
import { openDevice } from "../../../backends/index.ts";
import type { WasmBuild } from "../../../backends/wasm/index.ts";
import { WasmBackend } from "../../../backends/wasm/index.ts";
import { BYTES_PER_ELEMENT } from "../../../core/dtype.ts";
import { defined } from "../../options.ts";
import type { Machine } from "../../machine.ts";
import { describeMachine } from "../../machine.ts";
import { readVersion } from "../../version.ts";
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

export interface Diagnosis {
  readonly version: string;
  readonly machine: Machine;
  readonly threads: number;
  readonly hasRelaxedSimd: boolean;
  readonly builds: readonly BuildReport[];
  /** Microseconds of one kernel call that does next to nothing: on the calling thread alone, and shared by all threads. */
  readonly dispatchMicroseconds: { readonly serial: number; readonly shared: number } | null;
  /** What this machine could have and does not use, and why. */
  readonly leftOut: readonly { readonly what: string; readonly why: string }[];
  readonly isGood: boolean;
}

const BUILDS: readonly WasmBuild[] = ["relaxed", "simd"];

export async function examine(threads: number | undefined): Promise<Diagnosis> {
  const options = defined({ threads });
  const machine = describeMachine();
  const chosen = await openDevice("wasm", options).catch((error: Error) => error);
  const used = chosen instanceof WasmBackend ? chosen : undefined;
  const builds: BuildReport[] = [];
  for (const build of BUILDS) builds.push(await examineBuild(build, used, options));
  const failed = builds.some(({ ops }) => ops.some(({ isGood }) => !isGood));
  return {
    version: readVersion(),
    machine,
    threads: used?.threads ?? 0,
    hasRelaxedSimd: builds.some(({ build, ops }) => build === "relaxed" && ops.length > 0),
    builds,
    dispatchMicroseconds: used ? measureDispatch(used) : null,
    leftOut: listLeftOut(builds, used?.threads ?? 0, machine),
    isGood: used !== undefined && !failed,
  };
}

async function examineBuild(
  build: WasmBuild,
  used: WasmBackend | undefined,
  options: { threads?: number },
): Promise<BuildReport> {
  if (used?.build === build) return { build, isUsed: true, ops: selfTest(OP_SAMPLES, used) };
  try {
    const backend = await WasmBackend.create({ ...options, build });
    const ops = selfTest(OP_SAMPLES, backend);
    backend.dispose();
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

function listLeftOut(builds: readonly BuildReport[], threads: number, machine: Machine): Diagnosis["leftOut"] {
  const found = builds
    .filter(({ ops }) => ops.length === 0)
    .map(({ build, reason }) => ({ what: build === "relaxed" ? "relaxed SIMD" : "SIMD", why: reason ?? "unknown" }));
  if (machine.cores > threads && threads > 0)
    found.push({
      what: `${machine.cores - threads} of ${machine.cores} cores`,
      why: "8 threads at the most unless --threads says otherwise; more gain little, because memory is the limit",
    });
  if (machine.cores === 1) found.push({ what: "threads", why: "there is one core" });
  found.push({ what: "memory above 4 GiB", why: "WebAssembly addresses have 32 bits" });
  return found;
}
