// selectiveScan against the reference, central differences and golden vectors. Its laws: laws.test.ts.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { readGolden } from "../../../test/support/fixtures.ts";
import type { InputSpec, OpCase } from "../../../test/support/test-op.ts";
import { runOp, testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { Tape } from "../../tensor/tape.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { ScanOptions } from "./index.ts";
import { negativeExp, selectiveScan } from "./index.ts";

interface ScanSizes {
  batch?: number;
  length: number;
  dInner?: number;
  dState?: number;
  groups?: number;
}
type Optional = "D" | "dtBias" | "z" | "initialState" | "documentStarts";
const ALL: readonly Optional[] = ["D", "dtBias", "z", "initialState"];

/** A case of random inputs: A negative, steps around 0.5. */
function scanCase(
  { batch = 2, length, dInner = 5, dState = 4, groups = 1 }: ScanSizes,
  optional: readonly Optional[] = ALL,
  options: ScanOptions = {},
): OpCase<ScanOptions> {
  const perChannel: InputSpec = { shape: [batch, length, dInner] };
  const perToken: InputSpec = { shape: [batch, length, groups * dState] };
  const all: Record<Optional, InputSpec> = {
    D: { shape: [dInner] },
    dtBias: { shape: [dInner], element: (random) => random.uniform() / 2 },
    z: perChannel,
    initialState: { shape: [batch, dInner, dState] },
    documentStarts: { shape: [batch, length], dtype: "i32", element: (random) => (random.uniform() < 0.2 ? 1 : 0) },
  };
  const softplus = options.softplus ?? true;
  return {
    name: `[${batch}, ${length}, ${dInner}] dState ${dState} groups ${groups} ${optional.join(" ")} ${JSON.stringify(options)}`,
    inputs: {
      x: perChannel,
      dtRaw: { ...perChannel, element: (random) => (softplus ? random.normal() - 0.5 : 0.05 + random.uniform() / 2) },
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
  const element = ({ shape, element: from = () => random.normal() }: InputSpec) =>
    Array.from({ length: shape.reduce((product, axis) => product * axis, 1) }, (_, i) => Math.fround(from(random, i)));
  return Object.fromEntries(Object.entries(inputs).map(([name, spec]) => [name, element(spec)]));
}

const wide = (spec: InputSpec, extraColumns: number): InputSpec => ({ ...spec, extraColumns });
const views = scanCase({ length: 5 });
const { x, dtRaw, z, B, C } = views.inputs;

/** Small: each is also checked by central differences. Length 67 crosses a chunk of the kernels. */
testOp(selectiveScan, [
  scanCase({ length: 1 }),
  scanCase({ length: 2, dState: 1 }),
  scanCase({ length: 3, dState: 2 }, []),
  scanCase({ length: 3, dState: 3 }, ["D"]),
  scanCase({ length: 4, dState: 5 }, ["z"]),
  scanCase({ length: 3, dState: 8, dInner: 4 }, ["dtBias", "initialState"]),
  scanCase({ length: 3, dState: 16, dInner: 3 }),
  scanCase({ length: 1, dState: 16, dInner: 6 }, [...ALL, "documentStarts"]),
  scanCase({ length: 4, dState: 17, dInner: 2 }, ["D", "z"], { softplus: false }),
  scanCase({ length: 4, dInner: 6, groups: 2 }),
  scanCase({ length: 3, dInner: 6, dState: 3, groups: 6 }, ["D", "dtBias"], { softplus: false }),
  scanCase({ batch: 1, length: 67, dInner: 2, dState: 2 }),
  scanCase({ batch: 2, length: 9, dInner: 3 }, [...ALL, "documentStarts"]),
  {
    ...views,
    name: "views of columns",
    inputs: { ...views.inputs, x: wide(x, 5), dtRaw: wide(dtRaw, 3), z: wide(z, 5), B: wide(B, 7), C: wide(C, 6) },
  },
  { ...scanCase({ length: 3 }), name: "only finalState is used", unused: ["y"] },
  { ...scanCase({ length: 3 }), name: "only y is used", unused: ["finalState"] },
]);

testOp(negativeExp, [
  { name: "[3, 5]", inputs: { x: { shape: [3, 5] } }, options: {} },
  { name: "[2, 16]", inputs: { x: { shape: [2, 16] } }, options: {} },
]);

/** Larger than central differences can afford: WASM against the reference only. */
describe("large cases, outputs and gradients on both builds", () => {
  const starts = [...ALL, "documentStarts"] as const;
  const cases: OpCase<ScanOptions>[] = [
    ...[7, 16, 64, 257].map((length) => scanCase({ length, dInner: 6, dState: 16 })),
    scanCase({ batch: 1, length: 1134, dInner: 3, dState: 4 }),
    scanCase({ batch: 1, length: 4096, dInner: 2, dState: 2 }, ["D"]),
    scanCase({ batch: 1, length: 70, dInner: 5, dState: 64 }),
    scanCase({ batch: 1, length: 66, dInner: 5, dState: 256 }, starts),
    scanCase({ batch: 2, length: 130, dInner: 68, dState: 16, groups: 2 }, starts),
    scanCase({ batch: 3, length: 65, dInner: 9, dState: 12, groups: 3 }),
  ];
  it.each(cases)("$name", async (opCase) => {
    expect.hasAssertions();
    const values = makeValues(opCase);
    const expected = await runOp(selectiveScan, opCase, values, reference);
    for (const build of ["relaxed", "simd"] as const) {
      const actual = await runOp(selectiveScan, opCase, values, await wasmBackend(build));
      for (const name in expected.outputs)
        expectClose(`${build} ${name}`, actual.outputs[name], expected.outputs[name], 1e-5);
      for (const name in expected.grads)
        expectClose(`${build} grad.${name}`, actual.grads[name], expected.grads[name], 1e-5);
    }
  });
});

describe("golden vectors", () => {
  /** [batch, columns, length] to [batch, length, columns], or back. */
  const swap = (data: ArrayLike<number>, batch: number, a: number, b: number): number[] =>
    Array.from(
      { length: batch * a * b },
      (_, i) => data[Math.floor(i / (a * b)) * a * b + (i % a) * b + (Math.floor(i / a) % b)],
    );
  const files = [1, 3, 8, 128]
    .flatMap((length) => [1, 2].map((groups) => [length, groups]))
    .concat([
      [372, 1],
      [1134, 1],
    ]);
  it.each(files)("length %i, groups %i", async (length, groups) => {
    expect.hasAssertions();
    const { tensors } = await readGolden(`golden/scan_b2_d4_n8_L${length}_g${groups}.safetensors`);
    const golden = (name: string): ArrayLike<number> => {
      const { data, shape } = tensors.get(name)!;
      return name !== "last_state" && shape.at(-1) === length && shape.length > 2
        ? swap(data, 2, data.length / (2 * length), length)
        : data;
    };
    const perChannel = [2, length, 4];
    const perToken = [2, length, groups * 8];
    const devices: [Backend, number][] = [
      [reference, 1e-6],
      [await wasmBackend("relaxed"), 1e-4],
      [await wasmBackend("simd"), 1e-4],
    ];
    if (hasGpu) devices.push([await gpuBackend(), 1e-4]);
    for (const [backend, tolerance] of devices) {
      const make = (name: string, shape: number[]) => tensorFrom(backend, Float64Array.from(golden(name)), shape);
      const inputs = {
        x: make("u", perChannel),
        dtRaw: make("delta", perChannel),
        A: make("A", [4, 8]),
        B: make("B", perToken),
        C: make("C", perToken),
        D: make("D", [4]),
        z: make("z", perChannel),
        dtBias: make("delta_bias", [4]),
      };
      for (const tensor of Object.values(inputs)) tensor.requiresGrad = true;
      const tape = new Tape();
      const { y, finalState } = tape.record(() => selectiveScan(inputs, { groups }));
      expectClose("out", await y.readNative(), golden("out"), tolerance);
      expectClose("last_state", await finalState.readNative(), golden("last_state"), tolerance);
      tape.backward(y, make("dout", perChannel));
      const keys = { x: "u", dtRaw: "delta", A: "A", B: "B", C: "C", D: "D", z: "z", dtBias: "delta_bias" } as const;
      for (const [name, key] of Object.entries(keys)) {
        const gradient = tape.gradOf(inputs[name as keyof typeof keys])!;
        expectClose(`d${key}`, await gradient.readNative(), golden(`d${key}`), tolerance);
      }
    }
  });
});

it("stays finite where the decay underflows and where steps are large", async () => {
  expect.hasAssertions();
  const opCase = scanCase({ batch: 1, length: 70, dInner: 4, dState: 16 }, ["D", "z"]);
  opCase.inputs.dtRaw.element = (random, i) => (i % 3 === 0 ? 60 * random.uniform() : -80 * random.uniform());
  opCase.inputs.A.element = (random, i) => (i % 2 === 0 ? -1e4 * random.uniform() : -1e-6);
  const values = makeValues(opCase);
  const expected = await runOp(selectiveScan, opCase, values, reference);
  for (const build of ["relaxed", "simd"] as const) {
    const actual = await runOp(selectiveScan, opCase, values, await wasmBackend(build));
    for (const name in expected.outputs) expectClose(name, actual.outputs[name], expected.outputs[name], 1e-5);
    for (const name in expected.grads) expectClose(`grad.${name}`, actual.grads[name], expected.grads[name], 1e-4);
  }
});

it("says what does not fit", () => {
  const make = (...shape: number[]) => tensorFrom(reference, new Float32Array(shape.reduce((a, b) => a * b)), shape);
  const inputs = { x: make(2, 3, 4), dtRaw: make(2, 3, 4), A: make(4, 2), B: make(2, 3, 2), C: make(2, 3, 2) };
  const message =
    (changed: object, options: ScanOptions = {}): (() => unknown) =>
    () =>
      selectiveScan({ ...inputs, ...changed }, options);
  expect(message({ B: make(2, 2, 3) })).toThrow("selectiveScan: B must be [2, 3, 2], got [2, 2, 3].");
  expect(message({ A: make(3, 2) })).toThrow("selectiveScan: A must be [dInner, dState] = [4, dState], got [3, 2].");
  expect(message({ A: make(4, 257) })).toThrow("selectiveScan: dState must be 1 to 256, got 257.");
  expect(message({}, { groups: 3 })).toThrow("selectiveScan: groups must divide dInner = 4, got 3.");
  expect(message({ x: make(6, 4) })).toThrow("selectiveScan: x must be [batch, length >= 1, dInner], got [6, 4].");
  expect(message({ initialState: make(2, 2, 4) })).toThrow(
    "selectiveScan: initialState must be [2, 4, 2], got [2, 2, 4].",
  );
  expect(message({ z: make(2, 3, 5) })).toThrow("selectiveScan: z must be [2, 3, 4], got [2, 3, 5].");
});

it("adds to gradients that are there already", async () => {
  expect.hasAssertions();
  for (const backend of [reference, await wasmBackend()])
    scope(() => {
      const random = createRandom(3);
      const make = (...shape: number[]) =>
        tensorFrom(
          backend,
          Array.from({ length: shape.reduce((a, b) => a * b) }, () => -random.uniform()),
          shape,
        );
      const x = make(1, 70, 5);
      const inputs = { x, z: x, dtRaw: x, A: make(5, 3), B: make(1, 70, 3), C: make(1, 70, 3) };
      x.requiresGrad = true;
      const seed = make(1, 70, 5);
      const gradOf = (times: number): number[] => {
        const tape = new Tape();
        const ys = tape.record(() => Array.from({ length: times }, () => selectiveScan(inputs, {}).y));
        for (const y of ys) tape.seed(y, seed);
        tape.run();
        return Array.from(tape.gradOf(x)!.readNow());
      };
      expectClose(
        "twice the gradient",
        gradOf(2),
        gradOf(1).map((grad) => 2 * grad),
        1e-6,
      );
    });
});
