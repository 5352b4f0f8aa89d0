#!/usr/bin/env node
// The command `mamba`: runs the command line and sets the exit code; Node ends when all output is written.
// oxlint-disable-next-line import/no-unassigned-import -- it acts by being loaded, first of all
import "./small-heap.ts";
import { watchOutput } from "./output.ts";
import { runCommandLine } from "./program.ts";
import { reportError } from "./report-error.ts";

watchOutput();
process.once("uncaughtException", (error) => {
  // oxlint-disable-next-line unicorn/no-process-exit -- nobody knows what still works
  process.exit(reportError(error, "mamba"));
});
process.exitCode = await runCommandLine(process.argv.slice(2));
