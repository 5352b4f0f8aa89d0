// The kernels for a memory of their own: where a page may not share memory, the same module imports one that is not.
// Source: WebAssembly core specification 5.3.8 and 5.5.5 (limits, imports), and the threads proposal (the flag "shared").
import { BackendError } from "../../core/errors.ts";

/** The import of the memory up to its limits: module "env", name "memory", kind memory. */
const MEMORY_IMPORT = [3, ...codes("env"), 6, ...codes("memory"), 2];
const HAS_MAXIMUM = 1;
const IS_SHARED = 2;

/**
 * The module's bytes with the flag "shared" of its imported memory cleared, in a new array. Atomic operations are valid on
 * such a memory too, but for waiting, which one thread never does.
 */
export function unshareMemory(module: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const at = module.findIndex((_, i) => MEMORY_IMPORT.every((byte, j) => module[i + j] === byte));
  const flags = at + MEMORY_IMPORT.length;
  if (at < 0 || module[flags] !== (HAS_MAXIMUM | IS_SHARED))
    throw new BackendError("wasm: the kernels do not import a shared memory. Build them anew: npm run build:kernels.");
  return module.with(flags, HAS_MAXIMUM);
}

function codes(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0));
}
