// A piece of work that may take so long and no longer, or fail for its size: then it says why, and the rest goes on.
import { MambaError } from "../core/errors.ts";

export interface Limit {
  readonly seconds: number;
  /** Of the whole comparison. */
  readonly signal: AbortSignal | undefined;
}

export interface Stopped {
  readonly stopped: string;
}

/**
 * The result of `body`; or why there is none: its time was over (the signal that it is given says so), or it threw one of
 * this library's errors (no memory, a length that a model cannot hold). What else it throws comes through, and so does
 * the end of the whole comparison.
 */
export async function withinLimit<T>(
  { seconds, signal }: Limit,
  body: (signal: AbortSignal) => Promise<T>,
): Promise<T | Stopped> {
  signal?.throwIfAborted();
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), seconds * 1000);
  const told: Stopped = { stopped: `longer than ${seconds} s` };
  try {
    const result = await body(signal ? AbortSignal.any([signal, limit.signal]) : limit.signal);
    return result;
  } catch (error) {
    if (signal?.aborted) throw error;
    if (limit.signal.aborted) return told;
    const reason = reasonOf(error);
    if (reason === undefined) throw error;
    return { stopped: reason };
  } finally {
    clearTimeout(timer);
  }
}

export function isStopped(result: object): result is Stopped {
  return "stopped" in result;
}

/** What a failure says to people; undefined for one that nobody foresaw. */
export function reasonOf(error: unknown): string | undefined {
  if (error instanceof MambaError) return error.message;
  // What the host says of arrays that it has no memory for.
  return error instanceof RangeError ? `not enough memory: ${error.message}` : undefined;
}
