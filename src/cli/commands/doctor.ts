// mamba doctor: what this machine offers, what of it is used, and whether every op computes what it should.
import type { Command } from "commander";
import { Option } from "commander";
import { jsonOption, threadsOption } from "../options.ts";
import { print, printJson } from "../output.ts";
import { EXIT_FAILURE } from "../report-error.ts";
import { describe } from "./doctor/describe.ts";
import type { ExamineOptions, ExaminedDevice } from "./doctor/examine.ts";
import { examine, EXAMINED_DEVICES } from "./doctor/examine.ts";
import { TOLERANCES } from "./doctor/self-test.ts";

const { f32, f16 } = TOLERANCES;

const EXAMPLES = `
The self-test runs every op, forward and gradient, on small random inputs, and
compares with the reference in float64. Errors are relative to the largest
magnitude; up to ${f32.forward} is good, with float16 activations ${f16.forward} forward and ${f16.gradient} of
gradients. On a GPU the kernels that use its optional features are tested, and
the portable ones beside them. Exit code 1 when an op fails, or a device that was
named is not here; no GPU is no failure otherwise.
--json prints {version, machine, auto, wasm, webgpu, leftOut, isGood}:
  wasm: {threads, hasRelaxedSimd, builds: [{build, isUsed, reason, ops}],
    dispatchMicroseconds: {serial, shared}}
  webgpu: {problem} where it is not here, else {adapter: {vendor, architecture,
    description, isSoftware}, features, subgroupSize, matrixShapes, limits,
    speed: {dispatchMicroseconds: {wall, gpu}, roundTripMicroseconds,
    copyGigabytesPerSecond}, paths: [{path, precision, ops}]}
  ops: [{op, forwardError, gradientError, isGood, problem}]
  leftOut: [{what, why}]; a device that was not examined is null

Examples:
  $ mamba doctor
  $ mamba doctor --device webgpu
  $ mamba doctor --threads 1 --json`;

interface DoctorFlags extends ExamineOptions {
  device?: ExaminedDevice;
  json?: boolean;
}

export function addDoctor(program: Command, done: (exitCode: number) => void): void {
  program
    .command("doctor")
    .summary("what this machine offers, and a self-test")
    .description("Show what this machine offers, which kernels are used, and test every op.")
    .addOption(
      new Option("--device <device>", "which to examine (default: all that are here)").choices(EXAMINED_DEVICES),
    )
    .addOption(threadsOption())
    .addOption(jsonOption())
    .addHelpText("after", EXAMPLES)
    .action(async ({ json, ...options }: DoctorFlags) => {
      const diagnosis = await examine(options);
      if (json) await printJson(diagnosis);
      else await print(describe(diagnosis));
      done(diagnosis.isGood ? 0 : EXIT_FAILURE);
    });
}
