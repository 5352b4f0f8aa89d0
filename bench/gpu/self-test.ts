// The doctor's self-test as a case: every op on this GPU against the reference, so that no fast number is a wrong one.
import type { PathReport } from "../../src/cli/commands/doctor/examine-webgpu.ts";
import { examineWebGpu } from "../../src/cli/commands/doctor/examine-webgpu.ts";
import type { GpuCase, Numbers } from "./case.ts";

export const SELF_TEST_CASES: readonly GpuCase[] = [
  {
    name: "self-test of every op",
    tags: ["self-test"],
    async run() {
      const report = await examineWebGpu();
      if ("problem" in report) return { problem: report.problem };
      const { speed, limits } = report;
      const about: Numbers = { speed: JSON.stringify(speed), limits: JSON.stringify(limits) };
      return [about, ...report.paths.flatMap(describePath)];
    },
  },
];

/** The worst error of a path, and a line for every op that failed. */
function describePath({ path, precision, ops }: PathReport): Numbers[] {
  const errors = ops.map(({ forwardError, gradientError }) => Math.max(forwardError ?? 0, gradientError ?? 0));
  const bad = ops.filter(({ isGood }) => !isGood);
  const summary: Numbers = { path, precision, ops: ops.length, bad: bad.length, worstError: Math.max(0, ...errors) };
  return [summary, ...bad.map((op): Numbers => ({ bad: JSON.stringify(op) }))];
}
