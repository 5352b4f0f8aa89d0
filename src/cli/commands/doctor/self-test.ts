// The self-test: every op on a device, against the reference in float64.
import type { Backend } from "../../../backends/backend.ts";
import { ReferenceBackend } from "../../../backends/reference/index.ts";
import type { Numbers, OpSample, Precision } from "./op-sample.ts";

/** Errors that are good, relative to the largest magnitude of what was expected. float32 keeps well below its own. */
export const TOLERANCES = {
  f32: { forward: 1e-4, gradient: 1e-4 },
  f16: { forward: 3e-3, gradient: 5e-3 },
} as const;

export interface OpReport {
  readonly op: string;
  /** Worst error of its outputs, relative to the largest magnitude. Null: it did not run. */
  readonly forwardError: number | null;
  /** The same of its gradients; null where the op has none. */
  readonly gradientError: number | null;
  readonly isGood: boolean;
  /** Why it did not run. */
  readonly problem?: string;
}

/** What a self-test runs on. A GPU that failed once is of no use any more; `reopen` gives a new one. */
export interface TestedDevice {
  readonly backend: Backend;
  readonly reopen?: () => Promise<TestedDevice>;
}

/** Runs every sample on a device, which it disposes of. Never throws: an op that does is one that failed. */
export async function selfTest(
  samples: readonly OpSample[],
  device: TestedDevice,
  precision: Precision = "f32",
): Promise<OpReport[]> {
  const reports: OpReport[] = [];
  let tested = device;
  for (const sample of samples) {
    if (precision === "f16" && !sample.hasHalf) continue;
    const report = await testSample(sample, tested.backend, precision);
    reports.push(report);
    if (report.problem === undefined || !tested.reopen) continue;
    tested.backend.dispose();
    tested = await tested.reopen();
  }
  tested.backend.dispose();
  return reports;
}

async function testSample(sample: OpSample, backend: Backend, precision: Precision): Promise<OpReport> {
  try {
    const expected = await sample.run(new ReferenceBackend(), precision);
    const actual = await sample.run(backend, precision);
    const forwardError = worstError(actual.outputs, expected.outputs);
    const gradientError = expected.gradients ? worstError(actual.gradients ?? {}, expected.gradients) : null;
    const { forward, gradient } = TOLERANCES[precision];
    const isGood = forwardError <= forward && (gradientError ?? 0) <= gradient;
    return { op: sample.name, forwardError, gradientError, isGood };
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    return { op: sample.name, forwardError: null, gradientError: null, isGood: false, problem };
  }
}

/** max |actual - expected| / max |expected| over all results; infinite for NaN and for results that are missing. */
function worstError(actual: Numbers, expected: Numbers): number {
  return Math.max(0, ...Object.keys(expected).map((name) => errorOf(actual[name] ?? [], expected[name])));
}

function errorOf(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0;
  let largest = 1e-12;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    if (Number.isNaN(difference)) return Infinity;
    worst = Math.max(worst, difference);
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return worst / largest;
}
