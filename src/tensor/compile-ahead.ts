// Compiling ahead: the kernels of a computation side by side, before its first run would compile one after the other.
import type { Backend } from "../backends/backend.ts";
import { scope } from "./scope.ts";

const compiled = new WeakMap<object, Set<string>>();

/**
 * Compiles what `body` will run, once for each key of an owner (a model), where the device compiles kernels at their first
 * use; elsewhere nothing happens. `body` runs without effect on contents; tensors made inside are given back.
 * @returns whether it ran: gradients that parameters got on the way have no contents and must be cleared
 */
export async function compileOnce(backend: Backend, owner: object, key: string, body: () => void): Promise<boolean> {
  if (!backend.compileAhead) return false;
  const keys = compiled.get(owner) ?? new Set();
  compiled.set(owner, keys);
  if (keys.has(key)) return false;
  keys.add(key);
  await backend.compileAhead(() => scope(body));
  return true;
}
