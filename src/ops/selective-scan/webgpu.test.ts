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
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
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
  // One kernel for many sizes: [tokens, channels] are parameters.
  const cases = [
    ...[1, 16, 65, 200].map((length) => scanCase({ length, dInner: 8 })),
    ...[3, 17, 64, 256].map((dState) => scanCase({ batch: 2, length: 70, dState, dInner: 6 }, ALL)),
    scanCase({ batch: 2, length: 130, dInner: 72, groups: 2 }, ALL),
    scanCase({ batch: 3, length: 1200, dInner: 12, groups: 3, dState: 4 }, ALL),
  ];
  it.each(cases)("$name", async (opCase) => {
    expect.hasAssertions();
    await expectAsReference(opCase, await gpuBackend());
  });

  it("cuts what is larger than a binding: by sequences, by length, the state carried on", async () => {
    expect.hasAssertions();
    const backend = await gpuBackend({ maxBindingBytes: 16384 });
    await expectAsReference(scanCase({ batch: 3, length: 300, dInner: 8 }), backend);
    await expectAsReference(scanCase({ batch: 2, length: 700, dInner: 8 }), backend);
  });

  it("takes and gives float16", async () => {
    expect.hasAssertions();
    const backend = await gpuBackend();
    if (!backend.has("shader-f16")) return;
    const opCase = scanCase({ batch: 2, length: 130, dInner: 8 }, ["D", "dtBias", "z", "initialState"], {}, "f16");
    await expectAsReference(opCase, backend, true, { forward: 3e-3, gradient: 5e-3 });
  });

  it("stays finite where the decay underflows and where steps are large", async () => {
    expect.hasAssertions();
    const opCase = scanCase({ length: 70, dInner: 8 });
    opCase.inputs.dtRaw.element = (random, i) => (i % 3 === 0 ? 60 * random.uniform() : -80 * random.uniform());
    opCase.inputs.A.element = (random, i) => (i % 2 === 0 ? -1e4 * random.uniform() : -1e-6);
    await expectAsReference(opCase, await gpuBackend());
  });

  it("whole = in pieces = step by step, the state written over in place", async () => {
    const backend = await gpuBackend();
    const { inputs } = scanCase({ length: 40, dInner: 8 }, ["initialState"]);
    const values = makeValues({ name: "", inputs, options: {} });
    const run = async (lengths: readonly number[]): Promise<{ y: number[]; state: number[] }> => {
      const whole = (name: string) => tensorFrom(backend, values[name], inputs[name].shape);
      const [A, state] = [whole("A"), whole("initialState")];
      const tokens = { x: whole("x"), dtRaw: whole("dtRaw"), B: whole("B"), C: whole("C") };
      const y: number[] = [];
      let at = 0;
      for (const length of lengths) {
        const cut = (tensor: Tensor) => tensor.rowsOf(at, length).reshape([1, length, tensor.columns]);
        const { x, dtRaw, B, C } = tokens;
        const inputs = { x: cut(x), dtRaw: cut(dtRaw), B: cut(B), C: cut(C), A, initialState: state };
        y.push(...(await selectiveScan(inputs, {}, { finalState: state }).y.read()));
        at += length;
      }
      return { y, state: Array.from(await state.read()) };
    };
    const whole = await run([40]);
    for (const lengths of [[17, 3, 20], Array.from({ length: 40 }, () => 1)]) {
      const pieces = await run(lengths);
      expectClose("y", pieces.y, whole.y, 1e-5);
      expectClose("state", pieces.state, whole.state, 1e-5);
    }
  });

  it("adds to gradients that are there already, and to several in one tensor", async () => {
    const backend = await gpuBackend();
    const random = createRandom(3);
    const fill = (...shape: number[]) =>
      tensorFrom(
        backend,
        Array.from({ length: shape.reduce((a, b) => a * b) }, () => -random.uniform()),
        shape,
      );
    const x = fill(1, 20, 8);
    const inputs = { x, z: x, dtRaw: x, A: fill(8, 16), B: fill(1, 20, 16), C: fill(1, 20, 16) };
    x.requiresGrad = true;
    const seed = fill(1, 20, 8);
    const gradOf = async (times: number): Promise<Float32Array> => {
      const tape = new Tape();
      const ys = tape.record(() => Array.from({ length: times }, () => selectiveScan(inputs, {}).y));
      for (const y of ys) tape.seed(y, seed);
      tape.run();
      return tape.gradOf(x)!.read();
    };
    const once = await gradOf(1);
    expectClose(
      "twice the gradient",
      await gradOf(2),
      once.map((grad) => 2 * grad),
      1e-6,
    );
    expect(once.some((grad) => grad !== 0)).toBe(true);
  });
});
