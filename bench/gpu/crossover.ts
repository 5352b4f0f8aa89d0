// Where the scan overtakes attention: one layer's scan and one layer's attention of the 130m shapes, against the length.
import { forward as attend } from "../../src/ops/causal-attention/webgpu.ts";
import { forward as scan } from "../../src/ops/selective-scan/webgpu.ts";
import { emptyTensor } from "../../src/tensor/tensor.ts";
import { inputsOf } from "./attention.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { timeOnGpu } from "./case.ts";
import { makeScan } from "./scan.ts";

const LENGTHS = Array.from({ length: 9 }, (_, i) => 2 ** (9 + i));
const HEADS = 12;
const HEAD_DIM = 64;

export const CROSSOVER_CASES: readonly GpuCase[] = [
  {
    name: "crossover f16 B1: scan D1536 N16, attention H12x64",
    tags: ["crossover"],
    async run(backend) {
      const rows: Numbers[] = [];
      for (const length of LENGTHS) {
        const options = length > 2 ** 15 ? { runs: 3, warmUps: 1 } : {};
        const made = makeScan(backend, { batch: 1, length, dtype: "f16" });
        const call = { ...made, saved: undefined, options: {} };
        const scanning = await timeOnGpu(backend, () => scan(call, backend), options);
        for (const tensor of [...Object.values(made.inputs), ...Object.values(made.outputs)]) tensor?.dispose();
        const inputs = inputsOf(backend, { batch: 1, length, heads: HEADS, dtype: "f16" });
        const y = emptyTensor(backend, [1, length, HEADS * HEAD_DIM], "f16");
        const attending = { inputs, outputs: { y }, saved: undefined, options: { headDim: HEAD_DIM } };
        const attention = await timeOnGpu(backend, () => attend(attending, backend), options);
        [y, inputs.q.base!].forEach((tensor) => tensor.dispose());
        rows.push({ length, "scan ms": scanning.ms, "attention ms": attention.ms, ratio: attention.ms / scanning.ms });
      }
      return rows;
    },
  },
];
