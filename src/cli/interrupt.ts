// Ctrl-C: the first one asks a command to stop cleanly, the second one kills it.
import { constants } from "node:os";
import { log } from "./output.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** On a line of its own, below a text that streams. */
function sayBelow(notice: string): void {
  log(`\n${notice}`);
}

export interface Interrupt {
  /** Aborted by the first Ctrl-C (or SIGTERM). */
  readonly signal: AbortSignal;
  /** 128 + the signal's number (130 for Ctrl-C) once it came, else 0: the exit code that shells expect. */
  exitCode(): number;
  /** Gives Ctrl-C its usual meaning back. */
  release(): void;
}

/**
 * @param notice what to say at the first Ctrl-C
 * @param say how, where a bar is on the screen
 */
export function catchInterrupt(notice: string, say: (line: string) => void = sayBelow): Interrupt {
  const controller = new AbortController();
  let code = 0;
  const release = (): void => SIGNALS.forEach((name) => process.off(name, stop));
  const stop = (name: (typeof SIGNALS)[number]): void => {
    // Without a listener the next signal ends the process at once, even while a kernel keeps the thread.
    release();
    code = 128 + constants.signals[name];
    say(notice);
    controller.abort();
  };
  SIGNALS.forEach((name) => process.on(name, stop));
  return { signal: controller.signal, exitCode: () => code, release };
}
