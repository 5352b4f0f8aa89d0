// The WASM engine: one compiled module, one memory, shared where it may be, and worker threads that run its `work` loop.
import { BackendError } from "../../core/errors.ts";
import { unshareMemory } from "./unshare-memory.ts";

/** simd: baseline SIMD. relaxed: with relaxed SIMD (fused multiply-add, 8-bit dot products), where the engine has it. */
export type WasmBuild = "simd" | "relaxed";

/** How many threads, and which build of the kernels. */
export interface EngineOptions {
  /** Threads that share a kernel's work; default: the cores of this machine, 8 at the most. */
  threads?: number;
  /** Which build of the kernels; default: relaxed where it validates, else simd. */
  build?: WasmBuild;
  /** Whether threads may share the memory; default: yes in Node, and in pages that are cross-origin isolated. Without it there is one thread. */
  isShared?: boolean;
}

const PAGE_BYTES = 65536;
const MAXIMUM_PAGES = 65536;
const MAXIMUM_THREADS = 64;
const DEFAULT_THREADS = 8;
/** Mirrors kernels/assembly/runtime.ts. */
const STATE_ADDRESS = 1024;
const CLOSED = 1 << 15;
const SCRATCH_BYTES = 2 << 20;
const COMMAND_BYTES = 256;
const SERIAL = 1 << 30;
/** Commands and scratch begin here; the module's own data lies between --memoryBase and this address. */
const FIRST_FREE_ADDRESS = 2 * PAGE_BYTES;

/** A worker of Node has a JavaScript heap of its own, which it hardly uses. */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16, stackSizeMb: 1 };

/** A worker's whole program: it instantiates the same module over the same memory and never comes back from work(). */
const WORKER_SOURCE = `
const start = ({ module, memory, kernels, scratch, threads }) => {
  const { exports } = new WebAssembly.Instance(module, { env: { memory, abort() {} } });
  const first = exports.table.grow(kernels.length);
  kernels.forEach((name, i) => exports.table.set(first + i, exports[name]));
  exports.initThread(scratch, threads);
  exports.work();
};
if (typeof process === "object") process.getBuiltinModule("node:worker_threads").parentPort.once("message", start);
else onmessage = (event) => start(event.data);
`;

interface KernelModule {
  readonly table: WebAssembly.Table;
  initThread(scratch: number, threads: number): void;
  run(program: number, count: number): void;
}

interface WorkerHandle {
  postMessage(message: unknown): void;
  terminate(): unknown;
}

/** Module, memory and threads; knows kernels by name, and nothing of tensors. */
export class WasmEngine {
  readonly build: WasmBuild;
  readonly threads: number;
  /** Why there are fewer threads than were asked for; undefined when there are not. */
  readonly note: string | undefined;
  /** First address that tensors may use. */
  readonly firstFreeAddress: number;
  readonly #memory: WebAssembly.Memory;
  readonly #exports: KernelModule;
  readonly #kernelIndex = new Map<string, number>();
  readonly #workers: WorkerHandle[] = [];
  #i32: Int32Array;

  private constructor({ module, build }: CompiledKernels, { threads, isShared, note }: Threading) {
    this.build = build;
    this.threads = threads;
    this.note = note;
    this.firstFreeAddress = FIRST_FREE_ADDRESS + COMMAND_BYTES + threads * SCRATCH_BYTES;
    const initial = Math.ceil(this.firstFreeAddress / PAGE_BYTES);
    this.#memory = new WebAssembly.Memory({ initial, maximum: MAXIMUM_PAGES, shared: isShared });
    this.#i32 = new Int32Array(this.#memory.buffer);
    this.#i32[STATE_ADDRESS >> 2] = CLOSED;
    const instance = new WebAssembly.Instance(module, { env: { memory: this.#memory, abort: () => undefined } });
    this.#exports = instance.exports as unknown as KernelModule;
    const kernels = WebAssembly.Module.exports(module)
      .filter(({ name, kind }) => kind === "function" && !["initThread", "run", "work"].includes(name))
      .map(({ name }) => name);
    const first = this.#exports.table.grow(kernels.length);
    kernels.forEach((name, i) => {
      this.#exports.table.set(first + i, instance.exports[name]);
      this.#kernelIndex.set(name, first + i);
    });
    this.#exports.initThread(this.#scratch(0), threads);
    for (let thread = 1; thread < threads; thread++) {
      const worker = startWorker();
      worker.postMessage({ module, memory: this.#memory, kernels, scratch: this.#scratch(thread), threads });
      this.#workers.push(worker);
    }
  }

  /** Compiles the kernels and starts the threads. Throws BackendError when this JavaScript engine has no WASM SIMD. */
  static async create(options: EngineOptions = {}): Promise<WasmEngine> {
    const threading = chooseThreads(options);
    return new WasmEngine(await compileKernels(options.build, threading.isShared), threading);
  }

  /** The whole memory. Asked anew after every allocation, because growing makes a new buffer. */
  get buffer(): ArrayBufferLike {
    return this.#memory.buffer;
  }

  /** Makes the addresses below `end` usable. */
  ensure(end: number): void {
    const pages = Math.ceil(end / PAGE_BYTES);
    const current = this.#memory.buffer.byteLength / PAGE_BYTES;
    if (pages <= current) return;
    try {
      this.#memory.grow(pages - current);
    } catch (cause) {
      throw new BackendError(
        `wasm: not enough memory: ${Math.ceil(end / 2 ** 20)} MiB are needed in all, ${Math.floor((current * PAGE_BYTES) / 2 ** 20)} MiB are held, ` +
          "and the limit is 4096 MiB or what the system gives. Use --dtype int8, a smaller batch or length, or a smaller model.",
        { cause },
      );
    }
    this.#i32 = new Int32Array(this.#memory.buffer);
  }

  /** The table index of a kernel; `serial` asks for one thread, for work too small to share. */
  kernel(name: string, serial = false): number {
    const index = this.#kernelIndex.get(name);
    if (index === undefined)
      throw new BackendError(
        `wasm: there is no kernel "${name}". It has: ${[...this.#kernelIndex.keys()].join(", ")}.`,
      );
    return serial ? index | SERIAL : index;
  }

  /** Writes a command (kernel, then its arguments as 32-bit words) to an address. */
  writeCommand(address: number, kernel: number, args: readonly number[]): void {
    if (args.length >= COMMAND_BYTES >> 2)
      throw new BackendError(`wasm: a kernel takes at most ${(COMMAND_BYTES >> 2) - 1} arguments.`);
    const at = address / 4; // not >> 2: addresses reach beyond 2 GiB
    this.#i32[at] = kernel;
    for (let i = 0; i < args.length; i++) this.#i32[at + 1 + i] = args[i]!;
  }

  /** Runs one command now. */
  dispatch(kernel: number, args: readonly number[]): void {
    this.writeCommand(FIRST_FREE_ADDRESS, kernel, args);
    this.#exports.run(FIRST_FREE_ADDRESS, 1);
  }

  /** Runs `count` commands written behind each other at `address`. */
  run(address: number, count: number): void {
    this.#exports.run(address, count);
  }

  dispose(): void {
    for (const worker of this.#workers) worker.terminate();
  }

  #scratch(thread: number): number {
    return FIRST_FREE_ADDRESS + COMMAND_BYTES + thread * SCRATCH_BYTES;
  }
}

export { COMMAND_BYTES };

/** How the memory is held, and by how many threads. */
interface Threading {
  readonly threads: number;
  readonly isShared: boolean;
  readonly note: string | undefined;
}

const NOT_ISOLATED =
  "one thread: this page is not cross-origin isolated, so that threads cannot share memory. Serve it with the headers " +
  "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.";

function chooseThreads({ threads: wanted, isShared: mayShare }: EngineOptions): Threading {
  const os = globalThis.process?.getBuiltinModule?.("node:os");
  const cores = os ? os.availableParallelism() : (globalThis.navigator?.hardwareConcurrency ?? 1);
  const threads = wanted ?? Math.max(1, Math.min(DEFAULT_THREADS, cores));
  if (!Number.isInteger(threads) || threads < 1 || threads > MAXIMUM_THREADS)
    throw new BackendError(`wasm: threads must be a whole number from 1 to ${MAXIMUM_THREADS}, got ${threads}.`);
  const isShared = mayShare ?? (os !== undefined || globalThis.crossOriginIsolated);
  if (isShared) return { threads, isShared, note: undefined };
  return { threads: 1, isShared, note: threads > 1 ? NOT_ISOLATED : undefined };
}

function startWorker(): WorkerHandle {
  const threads = globalThis.process?.getBuiltinModule?.("node:worker_threads");
  if (threads) {
    const worker = new threads.Worker(WORKER_SOURCE, { eval: true, resourceLimits: WORKER_LIMITS });
    worker.unref();
    return worker;
  }
  return new Worker(URL.createObjectURL(new Blob([WORKER_SOURCE], { type: "text/javascript" })));
}

/** Node 20 has relaxed SIMD behind a flag that may be set before the first module is compiled. */
function enableRelaxedSimd(): void {
  globalThis.process?.getBuiltinModule?.("node:v8")?.setFlagsFromString("--experimental-wasm-relaxed-simd");
}

interface CompiledKernels {
  readonly module: WebAssembly.Module;
  readonly build: WasmBuild;
}

async function compileKernels(wanted: WasmBuild | undefined, isShared: boolean): Promise<CompiledKernels> {
  const bytesOf = async (build: WasmBuild): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = await readKernels(build);
    return isShared ? bytes : unshareMemory(bytes);
  };
  if (wanted !== "simd") {
    if (isRelaxedFlagKnown()) enableRelaxedSimd();
    const bytes = await bytesOf("relaxed");
    if (WebAssembly.validate(bytes)) return { module: await WebAssembly.compile(bytes), build: "relaxed" };
    if (wanted === "relaxed")
      throw new BackendError(
        "wasm: this JavaScript engine has no relaxed SIMD. Use the simd build, or Node 22 or newer.",
      );
  }
  const bytes = await bytesOf("simd");
  if (!WebAssembly.validate(bytes))
    throw new BackendError(
      "wasm: this JavaScript engine has no WebAssembly SIMD with threads. Use Node 20.19 or newer, or --device reference.",
    );
  return { module: await WebAssembly.compile(bytes), build: "simd" };
}

function isRelaxedFlagKnown(): boolean {
  const major = Number(globalThis.process?.versions?.node?.split(".")[0] ?? Infinity);
  return major < 22;
}

async function readKernels(build: WasmBuild): Promise<Uint8Array<ArrayBuffer>> {
  const url =
    build === "relaxed"
      ? new URL("../../../kernels/build/relaxed.wasm", import.meta.url)
      : new URL("../../../kernels/build/simd.wasm", import.meta.url);
  const fs = globalThis.process?.getBuiltinModule?.("node:fs");
  try {
    if (fs && url.protocol === "file:") return new Uint8Array(await fs.promises.readFile(url));
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    throw new BackendError(`wasm: the kernels ${url.href} cannot be read. In a checkout run "npm run build:kernels".`, {
      cause,
    });
  }
}
