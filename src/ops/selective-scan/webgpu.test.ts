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
import { defineOp } from "../../tensor/define-op.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { ScanInputs, ScanOptions } from "./index.ts";
import { selectiveScan } from "./index.ts";
import type { WantedPlan } from "./webgpu-choice.ts";
import { backward, forward } from "./webgpu.ts";

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
  { batch = 1, length, dInner = 8, dState = 16, groups = 1 }: ScanSizes,
  optional: readonly Optional[] = ALL,
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
  { forward = 1e-5, gradient = 1e-4, op = selectiveScan } = {},
): Promise<void> {
  const values = makeValues(opCase);
  const expected = await runOp(selectiveScan, opCase, values, reference);
  const actual = await runOp(op, opCase, values, backend);
  for (const name in expected.outputs) expectClose(name, actual.outputs[name], expected.outputs[name], forward);
  for (const name in expected.grads) expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], gradient);
}

/** The scan with parts of its plans fixed. */
function planned(wanted: WantedPlan): typeof selectiveScan {
  const { definition } = selectiveScan;
  const { kernels, gradient } = definition;
  return defineOp({
    ...definition,
    kernels: { ...kernels, webgpu: (call, backend: WebGpuBackend) => forward(call, backend, wanted) },
    gradient: {
      ...gradient!,
      kernels: { ...gradient!.kernels, webgpu: (call, backend: WebGpuBackend) => backward(call, backend, wanted) },
    },
  });
}

// Software adapters take seconds to compile a kernel: cases differ in what is a parameter wherever they can.
describe.skipIf(!hasGpu)("selectiveScan on WebGPU", () => {
  const cases = [
    ...[1, 16, 65, 200].map((length) => scanCase({ length })),
    scanCase({ batch: 2, length: 130, dInner: 72, groups: 2 }),
    scanCase({ batch: 3, length: 300, dInner: 12, groups: 3 }),
    scanCase({ batch: 2, length: 70, dInner: 6, dState: 3 }),
    scanCase({ batch: 2, length: 40, dState: 17 }),
    scanCase({ length: 40, dState: 256 }),
  ];
  it.each(cases)("$name", async (opCase) => {
    expect.hasAssertions();
    await expectAsReference(opCase, await gpuBackend());
  });

  it("cuts time into chunks where there are few channels, and tiles into parts", async () => {
    expect.hasAssertions();
    const backend = await gpuBackend();
    await expectAsReference(scanCase({ batch: 2, length: 300 }), backend, { op: planned({ chunks: 3, sub: 8 }) });
  });

  it("cuts what is larger than a binding: by sequences, by length, the state carried on", async () => {
    expect.hasAssertions();
    const backend = await gpuBackend({ maxBindingBytes: 16384 });
    await expectAsReference(scanCase({ batch: 3, length: 64 }), backend);
    await expectAsReference(scanCase({ batch: 2, length: 500 }), backend);
  });

  it("does without subgroups", async () => {
    expect.hasAssertions();
    await expectAsReference(scanCase({ length: 65 }), await gpuBackend({ without: ["subgroups"] }));
  });

  it("takes and gives float16", async () => {
    expect.hasAssertions();
    const backend = await gpuBackend();
    if (!backend.has("shader-f16")) return;
    const opCase = scanCase({ batch: 2, length: 130 }, ALL, {}, "f16");
    await expectAsReference(opCase, backend, { forward: 3e-3, gradient: 5e-3 });
  });

  it("stays finite where the decay underflows and where steps are large", async () => {
    expect.hasAssertions();
    const opCase = scanCase({ length: 70 });
    opCase.inputs.dtRaw.element = (random, i) => (i % 3 === 0 ? 60 * random.uniform() : -80 * random.uniform());
    opCase.inputs.A.element = (random, i) => (i % 2 === 0 ? -1e4 * random.uniform() : -1e-6);
    await expectAsReference(opCase, await gpuBackend());
  });

  it("whole = in pieces = step by step, the state written over in place", async () => {
    const backend = await gpuBackend();
    const { inputs } = scanCase({ length: 40 }, ["initialState"]);
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

  it.each([false, true])("adds to gradients that are there already; in one tensor: %s", async (isOne) => {
    const backend = await gpuBackend();
    const opCase = scanCase({ length: 20 });
    const values = makeValues(opCase);
    const make = (name: string): Tensor => {
      const { shape, dtype } = opCase.inputs[name];
      return tensorFrom(backend, values[name], shape, dtype);
    };
    const made = Object.fromEntries(Object.keys(values).map((name) => [name, make(name)])) as unknown as ScanInputs;
    const { x } = made;
    const inputs = isOne ? { ...made, dtRaw: x, z: x } : made;
    for (const name of ["x", "dtRaw", "z", "A", "B"] as const) inputs[name]!.requiresGrad = true;
    const seed = make("z");
    const gradientsOf = async (times: number): Promise<Float32Array[]> => {
      const tape = new Tape();
      const ys = tape.record(() => Array.from({ length: times }, () => selectiveScan(inputs, {}).y));
      for (const y of ys) tape.seed(y, seed);
      tape.run();
      return Promise.all([x, inputs.dtRaw, inputs.z!, inputs.A, inputs.B].map((of) => tape.gradOf(of)!.read()));
    };
    const [once, twice] = [await gradientsOf(1), await gradientsOf(2)];
    for (const [i, gradient] of once.entries()) {
      expect(gradient.some((element) => element !== 0)).toBe(true);
      expectClose(
        "twice the gradient",
        twice[i],
        gradient.map((element) => 2 * element),
        1e-6,
      );
    }
  });
});
