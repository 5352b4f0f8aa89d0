// A moment for the host: between two pieces of work, its signals, timers and redraws come through.

/** Resolves after the host handled what waits: a step of training holds the thread, and Ctrl-C must get in between. */
export function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
