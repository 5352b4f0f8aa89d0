// All cases, in the order in which they run.
import { ATTENTION_CASES } from "./attention.ts";
import type { GpuCase } from "./case.ts";
import { CROSSOVER_CASES } from "./crossover.ts";
import { DECODE_CASES } from "./decode.ts";
import { ELEMENT_CASES } from "./elements.ts";
import { EXPERT_CASES } from "./experts.ts";
import { LINEAR_CASES } from "./linear.ts";
import { RECURRENT_CASES } from "./recurrent.ts";
import { S4D_CASES } from "./s4d.ts";
import { SCAN_CASES } from "./scan.ts";
import { SELF_TEST_CASES } from "./self-test.ts";
import { TRAIN_CASES } from "./train.ts";

export const CASES: readonly GpuCase[] = [
  ...SELF_TEST_CASES,
  ...SCAN_CASES,
  ...S4D_CASES,
  ...LINEAR_CASES,
  ...ELEMENT_CASES,
  ...EXPERT_CASES,
  ...ATTENTION_CASES,
  ...CROSSOVER_CASES,
  ...RECURRENT_CASES,
  ...DECODE_CASES,
  ...TRAIN_CASES,
];
