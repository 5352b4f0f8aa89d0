// mamba doctor: what this machine offers, what of it is used, and whether every op computes what it should.
import type { Command } from "commander";
import { formatBytes, formatTable, significant } from "../format.ts";
import { jsonOption, threadsOption } from "../options.ts";
import { bold, mark, print, printJson } from "../output.ts";
import { EXIT_FAILURE } from "../report-error.ts";
import type { BuildReport, Diagnosis } from "./doctor/examine.ts";
import { examine } from "./doctor/examine.ts";
import type { OpReport } from "./doctor/self-test.ts";
import { TOLERANCE } from "./doctor/self-test.ts";

const EXAMPLES = `
The self-test runs every op, forward and gradient, on small random inputs, and
compares with the reference in float64. Errors are relative to the largest
magnitude; up to ${TOLERANCE} is good. Exit code 1 when an op fails.
--json prints {version, machine, threads, hasRelaxedSimd, builds: [{build,
isUsed, reason, ops}], dispatchMicroseconds, leftOut: [{what, why}], isGood}.

Examples:
  $ mamba doctor
  $ mamba doctor --threads 1 --json`;

export function addDoctor(program: Command, done: (exitCode: number) => void): void {
  program
    .command("doctor")
    .summary("what this machine offers, and a self-test")
    .description("Show what this machine offers, which build of the kernels is used, and test every op.")
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(async ({ threads, json }: { threads?: number; json?: boolean }) => {
      const diagnosis = await examine(threads);
      if (json) await printJson(diagnosis);
      else await print(describe(diagnosis));
      done(diagnosis.isGood ? 0 : EXIT_FAILURE);
    });
}

function describe(diagnosis: Diagnosis): string {
  const { version, machine, threads, builds, dispatchMicroseconds: dispatch, leftOut } = diagnosis;
  const rows = [
    ["mamba.ts", version],
    ["Node", `${machine.node}, ${machine.platform}`],
    ["processor", `${machine.cpu}, ${machine.cores} cores`],
    ["memory", formatBytes(machine.memoryBytes)],
    ["threads", String(threads)],
    ["relaxed SIMD", diagnosis.hasRelaxedSimd ? "yes" : "no"],
    ...builds.map(({ build, isUsed, reason }) => [`${build} build`, isUsed ? "used" : `not used: ${reason}`]),
  ];
  if (dispatch)
    rows.push([
      "kernel call",
      `${significant(dispatch.serial)} µs on one thread, ${significant(dispatch.shared)} µs shared by ${threads}`,
    ]);
  return [
    formatTable(rows),
    ...builds.filter(({ ops }) => ops.length > 0).map(describeBuild),
    "",
    bold("Left out"),
    ...leftOut.map(({ what, why }) => `  ${what}: ${why}`),
    "",
    diagnosis.isGood ? "All is well.\n" : "Something is wrong: see above.\n",
  ].join("\n");
}

function describeBuild({ build, ops }: BuildReport): string {
  const error = (value: number | null): string => (value === null ? "–" : value.toExponential(1));
  const row = ({ op, forwardError, gradientError }: OpReport): string[] => [
    op,
    error(forwardError),
    error(gradientError),
  ];
  const lines = formatTable([["op", "forward", "gradient"], ...ops.map(row)], [1, 2]).split("\n");
  const marked = ops.map(
    ({ isGood, problem }, i) => `  ${lines[i + 1]}  ${mark(isGood)}${problem ? ` ${problem}` : ""}`,
  );
  return ["", bold(`Self-test of the ${build} build: worst errors`), `  ${lines[0]}`, ...marked].join("\n");
}
