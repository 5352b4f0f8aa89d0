// Cases of linear.
import type { GpuCase } from "./case.ts";

export const LINEAR_CASES: readonly GpuCase[] = [];
