// expertMlp against the reference, central differences, and the laws of a mixture.
import { describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference, wasmBackend } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import { testOpOnGpu } from "../../../test/support/test-op-gpu.ts";
import type { InputSpec, OpCase } from "../../../test/support/test-op.ts";
import { testOp } from "../../../test/support/test-op.ts";
import type { Backend } from "../../backends/backend.ts";
import { createRandom } from "../../core/random.ts";
import { scope } from "../../tensor/scope.ts";
import { tensorFrom, zeros } from "../../tensor/tensor.ts";
import { linear } from "../linear/index.ts";
import { siluGate } from "../silu-gate/index.ts";
import type { ExpertMlpInputs } from "./index.ts";
import { expertMlp } from "./index.ts";

interface Sizes {
  tokens: readonly number[];
  topK: number;
  experts: number;
  dModel: number;
  dInner: number;
}

function caseOf(name: string, sizes: Sizes, extra: Partial<InputSpec> = {}, chosen = sizes.experts): OpCase<object> {
  const { tokens, topK, experts, dModel, dInner } = sizes;
  const scaled =
    (columns: number): NonNullable<InputSpec["element"]> =>
    (random) =>
      random.normal() / Math.sqrt(columns);
  return {
    name,
    inputs: {
      x: { shape: [...tokens, dModel], ...extra },
      gates: { shape: [...tokens, topK] },
      choices: { shape: [...tokens, topK], dtype: "i32", element: (random) => random.integer(chosen) },
      upGate: { shape: [experts, 2 * dInner, dModel], element: scaled(dModel) },
      down: { shape: [experts, dModel, dInner], element: scaled(dInner) },
    },
    options: {},
  };
}

const CASES = [
  caseOf("2 of 4", { tokens: [2, 7], topK: 2, experts: 4, dModel: 8, dInner: 12 }),
  caseOf("odd widths, a view", { tokens: [3, 9], topK: 1, experts: 3, dModel: 5, dInner: 7 }, { extraColumns: 3 }),
  caseOf("all tokens to 2 of 9", { tokens: [1, 70], topK: 2, experts: 9, dModel: 16, dInner: 8 }, {}, 2),
  caseOf("one token", { tokens: [1, 1], topK: 2, experts: 5, dModel: 16, dInner: 24 }),
];

testOp(expertMlp, CASES);

testOpOnGpu(expertMlp, CASES, { halves: ["x"], bindingBytes: 65536, usesSubgroups: true });

async function backends(): Promise<Backend[]> {
  return [reference, await wasmBackend("simd"), await wasmBackend(), ...(hasGpu ? [await gpuBackend()] : [])];
}

const SIZES = { tokens: 37, topK: 2, experts: 5, dModel: 12, dInner: 20 };

/** Values of all inputs, each token with different experts. */
function valuesOf(topK = SIZES.topK) {
  const { tokens, experts, dModel, dInner } = SIZES;
  const random = createRandom(3);
  const normals = (count: number): number[] => Array.from({ length: count }, () => Math.fround(random.normal() / 3));
  return {
    x: normals(tokens * dModel),
    gates: Array.from({ length: tokens * topK }, () => Math.fround(random.normal())),
    choices: Array.from({ length: tokens }, () => {
      const first = random.integer(experts);
      return Array.from({ length: topK }, (_, slot) => (first + slot * (topK === experts ? 1 : 2)) % experts);
    }).flat(),
    upGate: normals(experts * 2 * dInner * dModel),
    down: normals(experts * dModel * dInner),
  };
}

type Values = ReturnType<typeof valuesOf>;

function inputsOf(backend: Backend, values: Values): ExpertMlpInputs {
  const { experts, dModel, dInner } = SIZES;
  const tokens = values.x.length / dModel;
  const topK = values.gates.length / tokens;
  return {
    x: tensorFrom(backend, values.x, [tokens, dModel]),
    gates: tensorFrom(backend, values.gates, [tokens, topK]),
    choices: tensorFrom(backend, values.choices, [tokens, topK], "i32"),
    upGate: tensorFrom(backend, values.upGate, [experts, 2 * dInner, dModel]),
    down: tensorFrom(backend, values.down, [experts, dModel, dInner]),
  };
}

async function run(backend: Backend, values: Values): Promise<number[]> {
  const y = scope(() => expertMlp(inputsOf(backend, values), {}).y);
  const data = Array.from(await y.readNative());
  y.dispose();
  return data;
}

/** Every expert computes every token, and a mask of gates says what counts. */
async function dense(backend: Backend, values: Values): Promise<number[]> {
  const { experts, dModel, dInner } = SIZES;
  const topK = values.gates.length / (values.x.length / dModel);
  const { x, upGate, down } = inputsOf(backend, values);
  const sum = values.x.map(() => 0);
  for (let e = 0; e < experts; e++) {
    const uz = linear({ x, weight: upGate.entries(e, 1).reshape([2 * dInner, dModel]) }, {}).y;
    const h = siluGate({ x: uz.columnsOf(0, dInner), z: uz.columnsOf(dInner, 2 * dInner) }, {}).y;
    const out = await linear({ x: h, weight: down.entries(e, 1).reshape([dModel, dInner]) }, {}).y.readNative();
    out.forEach((value, i) => {
      const first = Math.floor(i / dModel) * topK;
      for (let pair = first; pair < first + topK; pair++)
        if (values.choices[pair] === e) sum[i] += values.gates[pair] * value;
    });
  }
  return sum;
}

describe("expertMlp", () => {
  it("equals a dense computation with masks, and with all experts the soft mixture", async () => {
    for (const backend of await backends())
      for (const topK of [1, 2, SIZES.experts]) {
        const values = valuesOf(topK);
        expectClose(`top ${topK}`, await run(backend, values), await dense(backend, values), 1e-5);
      }
  });

  it("does not depend on the numbering of the experts", async () => {
    const values = valuesOf();
    const { experts } = SIZES;
    const renumber = (e: number): number => (e * 2 + 1) % experts;
    const move = (weights: number[]): number[] => {
      const size = weights.length / experts;
      const moved = weights.slice();
      weights.forEach((value, i) => (moved[renumber(Math.floor(i / size)) * size + (i % size)] = value));
      return moved;
    };
    const other = {
      ...values,
      choices: values.choices.map(renumber),
      upGate: move(values.upGate),
      down: move(values.down),
    };
    for (const backend of await backends())
      expectClose("y", await run(backend, other), await run(backend, values), 1e-6);
  });

  it("computes a token without regard to the others: on the CPU to the bit", async () => {
    const values = valuesOf();
    const { dModel, topK } = SIZES;
    for (const backend of await backends()) {
      const all = await run(backend, values);
      for (const token of [0, 17, 36]) {
        const own = await run(backend, {
          ...values,
          x: values.x.slice(token * dModel, (token + 1) * dModel),
          gates: values.gates.slice(token * topK, (token + 1) * topK),
          choices: values.choices.slice(token * topK, (token + 1) * topK),
        });
        const expected = all.slice(token * dModel, (token + 1) * dModel);
        if (backend.name === "webgpu") expectClose("y", own, expected, 1e-5);
        else expect(own).toEqual(expected);
      }
    }
  });

  it("follows other choices when a plan is replayed", async () => {
    const values = valuesOf();
    const changed = { ...values, choices: values.choices.map((e) => (e + 1) % SIZES.experts) };
    for (const backend of await backends()) {
      if (!backend.capture) continue;
      const inputs = inputsOf(backend, values);
      const y = zeros(backend, inputs.x.shape);
      const plan = backend.capture(() => scope(() => void expertMlp(inputs, {}, { y })));
      inputs.choices.write(Int32Array.from(changed.choices));
      plan.run();
      expectClose("y", Array.from(await y.readNative()), await run(backend, changed), 1e-6);
      plan.dispose();
    }
  });

  it("says which shapes do not fit", () => {
    const inputs = inputsOf(reference, valuesOf());
    const x = zeros(reference, [37, 11]);
    expect(() => expertMlp({ ...inputs, x }, {})).toThrow("got [37, 11], [5, 40, 12] and [5, 12, 20]");
    const gates = zeros(reference, [36, 2]);
    expect(() => expertMlp({ ...inputs, gates }, {})).toThrow("got [36, 2] and [37, 2]");
    expect(() => expertMlp({ ...inputs, choices: inputs.gates }, {})).toThrow("got f32, f32 and f32");
  });
});
