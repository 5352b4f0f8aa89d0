// Cases of lstm and gru: states that a workgroup holds, and larger ones, whose tokens are dispatches of their own.
import type { WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { DType } from "../../src/core/dtype.ts";
import { createRandom } from "../../src/core/random.ts";
import { gru } from "../../src/ops/gru/index.ts";
import { lstm } from "../../src/ops/lstm/index.ts";
import type { CellName } from "../../src/ops/recurrent/cells.ts";
import { GATES } from "../../src/ops/recurrent/cells.ts";
import { scope } from "../../src/tensor/scope.ts";
import { Tape } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { emptyTensor } from "../../src/tensor/tensor.ts";
import type { GpuCase, Numbers } from "./case.ts";
import { spread, timeOnGpu, timeOnWall } from "./case.ts";

const WALL_RUNS = 5;

function normals(backend: WebGpuBackend, shape: readonly number[], dtype: DType, scale: number): Tensor {
  const random = createRandom(1);
  const tensor = emptyTensor(backend, shape, dtype);
  tensor.write(Float32Array.from({ length: tensor.size }, () => scale * random.normal()));
  return tensor;
}

/** GPU time, and wall time, for the host has a dispatch a token to queue where the state is large. */
async function measure(backend: WebGpuBackend, what: string, length: number, body: () => void): Promise<Numbers> {
  const { ms, least } = await timeOnGpu(backend, () => scope(body), { runs: 5 });
  const walls: number[] = [];
  for (let i = 0; i < WALL_RUNS; i++) walls.push(await timeOnWall(backend, () => scope(body)));
  const wallMs = spread(walls).ms;
  return { what, ms, least, wallMs, "µs a token, wall": Math.round((1e5 * wallMs) / length) / 100 };
}

function recurrentCase(
  cell: CellName,
  [batch, length, dHidden]: readonly [number, number, number],
  dtype: DType,
): GpuCase {
  return {
    name: `${cell} [${batch}, ${length}, ${dHidden}] ${dtype}`,
    tags: ["recurrent"],
    async run(backend) {
      const width = GATES[cell] * dHidden;
      const gates = normals(backend, [batch, length, width], dtype, 1);
      const weight = normals(backend, [width, dHidden], "f32", dHidden ** -0.5);
      const bias = normals(backend, [width], "f32", 0.1);
      const seed = normals(backend, [batch, length, dHidden], dtype, 1);
      const compute = (): Tensor => (cell === "gru" ? gru({ gates, weight, bias }, {}) : lstm({ gates, weight }, {})).y;
      const train = (): void => {
        for (const tensor of [gates, weight, bias]) tensor.requiresGrad = true;
        const tape = new Tape();
        tape.backward(tape.record(compute), seed);
        for (const tensor of [gates, weight, bias]) tensor.requiresGrad = false;
      };
      return [
        await measure(backend, "forward", length, () => void compute()),
        await measure(backend, "forward and backward", length, train),
      ];
    },
  };
}

export const RECURRENT_CASES: readonly GpuCase[] = [
  recurrentCase("lstm", [64, 1024, 64], "f32"),
  recurrentCase("lstm", [64, 1024, 128], "f32"),
  recurrentCase("lstm", [32, 512, 512], "f32"),
  recurrentCase("lstm", [32, 512, 1024], "f16"),
  recurrentCase("gru", [64, 1024, 64], "f32"),
  recurrentCase("gru", [32, 512, 512], "f16"),
];
