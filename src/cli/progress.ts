// Progress bars on stderr, where that is a terminal; nothing elsewhere.
import { createRequire } from "node:module";
import type { SingleBar } from "cli-progress";
import { log } from "./output.ts";

/** The library is loaded with the first bar that appears: it takes 7 MB. */
const require = createRequire(import.meta.url);

export interface BarOptions {
  /** The bar appears only when the work takes longer than this; default 300. */
  quietMs?: number;
}

export interface Bar {
  /** @param share done, 0 to 1. @param note what else to say behind the bar. */
  update(share: number, note?: string): void;
  /** Prints a line above the bar. */
  log(line: string): void;
  /** Whether there is a terminal to show it on. */
  readonly isShown: boolean;
  /** Takes the bar away. */
  end(): void;
}

/** Work shorter than this shows no bar. */
const QUIET_MS = 300;
const STEPS = 1000;

/** A bar with a name before it; it appears when the work takes long enough to wonder. */
export function createBar(name: string, { quietMs = QUIET_MS }: BarOptions = {}): Bar {
  if (!process.stderr.isTTY) return { update: () => undefined, log, isShown: false, end: () => undefined };
  const started = performance.now();
  let bar: SingleBar | undefined;
  return {
    update(share, note = "") {
      if (!bar && performance.now() - started < quietMs) return;
      if (!bar) {
        const library = require("cli-progress") as typeof import("cli-progress");
        bar = new library.SingleBar({
          stream: process.stderr,
          format: "{name} {bar} {percentage}% {note}",
          barCompleteChar: "━",
          barIncompleteChar: "─",
          barsize: 24,
          clearOnComplete: true,
          gracefulExit: false,
          // Trimmed to the terminal. Its settings stay as they are, so that a kill leaves nothing behind.
          linewrap: true,
          fps: 8,
        });
        bar.start(STEPS, 0, { name, note });
      }
      bar.update(Math.round(share * STEPS), { note });
    },
    log(line) {
      // The bar remembers where it began; a line above it needs a new one.
      bar?.stop();
      bar = undefined;
      log(line);
    },
    isShown: true,
    end() {
      bar?.stop();
      bar = undefined;
    },
  };
}
