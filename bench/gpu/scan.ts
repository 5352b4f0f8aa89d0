// Cases of scan.
import type { GpuCase } from "./case.ts";

export const SCAN_CASES: readonly GpuCase[] = [];
