// selectiveScan on WebGPU against the reference: every layout, every way to be cut, with and without what a device may lack.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { InputSpec, OpCase } from "../../../test/support/test-op.ts";
import { runOp } from "../../../test/support/test-op.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import type { DType } from "../../core/dtype.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../core/half.ts";
import { createRandom } from "../../core/random.ts";
import type { Random } from "../../core/random.ts";
import type { ScanOptions } from "./index.ts";
import { selectiveScan } from "./index.ts";

interface ScanSizes {
  batch?: number;
  length: number;
  dInner?: number;
  dState?: number;
  groups?: number;
}
type Optional = "D" | "dtBias" | "z" | "initialState" | "documentStarts";
const ALL: readonly Optional[] = ["D", "dtBias", "z", "initialState", "documentStarts"];

function scanCase(
  { batch = 1, length, dInner = 5, dState = 16, groups = 1 }: ScanSizes,
  optional: readonly Optional[] = ["D", "dtBias", "z", "initialState"],
  options: ScanOptions = {},
  dtype: DType = "f32",
): OpCase<ScanOptions> {
  const perChannel: InputSpec = { shape: [batch, length, dInner], dtype };
  const perToken: InputSpec = { shape: [batch, length, groups * dState], dtype };
  const all: Record<Optional, InputSpec> = {
    D: { shape: [dInner] },
    dtBias: { shape: [dInner], element: (random) => random.uniform() / 2 },
    z: perChannel,
    initialState: { shape: [batch, dInner, dState] },
    documentStarts: { shape: [batch, length], dtype: "i32", element: (random) => (random.uniform() < 0.02 ? 1 : 0) },
  };
  return {
    name: `${dtype} [${batch}, ${length}, ${dInner}] dState ${dState} groups ${groups} ${optional.join(" ")}`,
    inputs: {
      x: perChannel,
      dtRaw: {
        ...perChannel,
        element: (random) => (options.softplus === false ? 0.05 + random.uniform() / 2 : random.normal() - 0.5),
      },
      A: { shape: [dInner, dState], element: (random) => -0.1 - 2 * random.uniform() },
      B: perToken,
      C: perToken,
      ...Object.fromEntries(optional.map((name) => [name, all[name]])),
    },
    options: { ...options, groups },
  };
}

function makeValues({ inputs }: OpCase<ScanOptions>): Record<string, number[]> {
  const random = createRandom(5);
  const round = (value: number, dtype?: DType): number => (dtype === "f16" ? asHalf(value) : Math.fround(value));
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, dtype, element = (r: Random) => r.normal() }]) => [
      name,
      Array.from({ length: shape.reduce((product, axis) => product * axis, 1) }, (_, i) =>
        round(element(random, i), dtype),
      ),
    ]),
  );
}

function asHalf(value: number): number {
  const [bits, back] = [new Uint16Array(1), new Float32Array(1)];
  float32ToFloat16(Float32Array.of(value), bits);
  float16ToFloat32(bits, back);
  return back[0];
}

async function expectAsReference(
  opCase: OpCase<ScanOptions>,
  backend: WebGpuBackend,
  withGradients = true,
  tolerances: { forward: number; gradient: number } = { forward: 1e-5, gradient: 1e-4 },
): Promise<void> {
  const values = makeValues(opCase);
  const expected = await runOp(selectiveScan, opCase, values, reference, withGradients);
  const actual = await runOp(selectiveScan, opCase, values, backend, withGradients);
  for (const name in expected.outputs)
    expectClose(name, actual.outputs[name], expected.outputs[name], tolerances.forward);
  for (const name in expected.grads)
    expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], tolerances.gradient);
}

describe.skipIf(!hasGpu)("selectiveScan on WebGPU", () => {
  const cases = [
    ...[1, 3, 16, 17, 65, 200].map((length) => scanCase({ length, dInner: 8 })),
    ...[1, 3, 8, 17, 64, 256].map((dState) => scanCase({ batch: 2, length: 70, dState, dInner: 6 }, ALL)),
    scanCase({ batch: 2, length: 130, dInner: 72, groups: 2 }, ALL),
    scanCase({ batch: 3, length: 1200, dInner: 12, groups: 3, dState: 4 }, ALL),
    scanCase({ length: 300, dInner: 6 }, [], { softplus: false }),
  ];
  it.each(cases)("$name", async (opCase) => {
    expect.hasAssertions();
    await expectAsReference(opCase, await gpuBackend());
  });
});
