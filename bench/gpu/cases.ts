// All cases, in the order in which they run.
import type { GpuCase } from "./case.ts";
import { LINEAR_CASES } from "./linear.ts";
import { SCAN_CASES } from "./scan.ts";

export const CASES: readonly GpuCase[] = [...SCAN_CASES, ...LINEAR_CASES];
