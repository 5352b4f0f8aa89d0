// scope: gives back the memory of all tensors made inside it, except of those it returns.
import { BackendError } from "../core/errors.ts";

/** What a scope owns: anything that can give its memory back. */
export interface Disposable {
  dispose(): void;
}

class Scope {
  readonly #owned = new Set<Disposable>();
  readonly parent: Scope | undefined;

  constructor(parent: Scope | undefined) {
    this.parent = parent;
  }

  add(tensor: Disposable): void {
    this.#owned.add(tensor);
  }

  remove(tensor: Disposable): void {
    if (!this.#owned.delete(tensor)) this.parent?.remove(tensor);
  }

  close(kept: ReadonlySet<unknown>): void {
    for (const tensor of this.#owned) {
      if (kept.has(tensor)) this.parent?.add(tensor);
      else tensor.dispose();
    }
  }
}

let current: Scope | undefined;

/** The innermost open scope. */
export function currentScope(): Pick<Scope, "add" | "remove"> | undefined {
  return current;
}

/** Takes a tensor out of all open scopes: its maker disposes of it (parameters, states, gradients). */
export function keep<T extends Disposable>(tensor: T): T {
  current?.remove(tensor);
  return tensor;
}

/**
 * Runs `body`, then disposes of every tensor that was made inside, except those found in its result (a tensor, or
 * arrays and plain objects of them), which pass to the enclosing scope. `body` must be synchronous.
 */
export function scope<T>(body: () => T): T {
  const own = new Scope(current);
  current = own;
  let result: T;
  try {
    result = body();
    if (result instanceof Promise)
      throw new BackendError("scope: its body must be synchronous. Read tensors after the scope, from its result.");
  } catch (error) {
    current = own.parent;
    own.close(new Set());
    throw error;
  }
  current = own.parent;
  own.close(reachable(result, new Set()));
  return result;
}

function reachable(value: unknown, found: Set<unknown>): Set<unknown> {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value) || found.has(value)) return found;
  found.add(value);
  if ("base" in value && "storage" in value) return reachable(value.base, found);
  for (const member of Array.isArray(value) ? value : Object.values(value)) reachable(member, found);
  return found;
}
