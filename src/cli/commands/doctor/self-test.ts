// The self-test: every op on a build of the kernels, against the reference in float64.
import type { Backend } from "../../../backends/backend.ts";
import { ReferenceBackend } from "../../../backends/reference/index.ts";
import type { Numbers, OpSample } from "./op-sample.ts";

/** Of the largest magnitude of what was expected; float32 keeps well below it. */
export const TOLERANCE = 1e-4;

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

/** Runs every sample on a device. Never throws: an op that does is one that failed. */
export function selfTest(samples: readonly OpSample[], backend: Backend): OpReport[] {
  const reference = new ReferenceBackend();
  return samples.map((sample) => {
    try {
      const expected = sample.run(reference);
      const actual = sample.run(backend);
      const forwardError = worstError(actual.outputs, expected.outputs);
      const gradientError = expected.gradients ? worstError(actual.gradients ?? {}, expected.gradients) : null;
      return {
        op: sample.name,
        forwardError,
        gradientError,
        isGood: Math.max(forwardError, gradientError ?? 0) <= TOLERANCE,
      };
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      return { op: sample.name, forwardError: null, gradientError: null, isGood: false, problem };
    }
  });
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
