// A moment for the host: between two pieces of work, its signals, timers and redraws come through.

/** Resolves after the host handled what waits: computing holds the thread, and Ctrl-C must get in between. */
export function pause(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}

/** A {@link pause} for loops of short steps: it pauses once in `everyMs` milliseconds, and costs nothing in between. */
export function createPacer(everyMs = 16): () => Promise<void> | undefined {
  let last = performance.now();
  return () => {
    if (performance.now() - last < everyMs) return undefined;
    return pause().then(() => {
      last = performance.now();
    });
  };
}
