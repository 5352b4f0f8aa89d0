// Tests lie beside what they test (src) or under test/ when they cross layers.
import { defineConfig } from "vitest/config";

/** A software GPU takes seconds to compile a kernel for the first time, and a test of a model has some forty of them. */
const PATIENCE = 300_000;

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts", "kernels/**/*.test.ts"],
    testTimeout: PATIENCE,
    hookTimeout: PATIENCE,
    pool: "forks",
    // A device on the processor uses more than one core by itself.
    maxWorkers: 2,
  },
});
