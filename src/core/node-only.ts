// What works in Node alone: files and folders. A browser's bundle leaves the modules *-node.ts out (see package.json).
import { UsageError } from "./errors.ts";

/** @throws UsageError in a browser: `what` does not work there. `remedy` is a sentence. */
export function checkNode(what: string, remedy: string): void {
  if (globalThis.process?.versions?.node === undefined)
    throw new UsageError(`${what} works with files, in Node only. ${remedy}`);
}
