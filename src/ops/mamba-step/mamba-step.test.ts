// mambaStep and stepHead: the fused kernels against the ordinary ops, for several sizes, weights and batches.
import { beforeAll, describe, expect, it } from "vitest";
import { gpuBackend, hasGpu, reference } from "../../../test/support/backends.ts";
import { expectClose } from "../../../test/support/compare.ts";
import type { Backend } from "../../backends/backend.ts";
import type { WebGpuBackend } from "../../backends/webgpu/index.ts";
import { float16ToFloat32, float32ToFloat16 } from "../../core/half.ts";
import { createRandom } from "../../core/random.ts";
import { sizeOf } from "../../core/shape.ts";
import { scope } from "../../tensor/scope.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tensorFrom } from "../../tensor/tensor.ts";
import type { StepInputs } from "./index.ts";
import { isStepFused, mambaStep, stepHead } from "./index.ts";

interface Sizes {
  batch: number;
  dModel: number;
  dInner: number;
  dState: number;
  dtRank: number;
  width: number;
  bias: boolean;
  convBias: boolean;
}

const USUAL: Sizes = {
  batch: 1,
  dModel: 64,
  dInner: 128,
  dState: 16,
  dtRank: 4,
  width: 4,
  bias: false,
  convBias: true,
};

const CASES: readonly (Partial<Sizes> & { name: string })[] = [
  { name: "one row" },
  { name: "two rows, biases", batch: 2, bias: true },
  {
    name: "five rows, dState 8, dtRank 3, no bias of the convolution",
    batch: 5,
    dState: 8,
    dtRank: 3,
    convBias: false,
  },
  { name: "eight rows, width 2", batch: 8, width: 2 },
  {
    name: "dState 6, dtRank 5, width 3, sizes that are no multiple of a team",
    dState: 6,
    dtRank: 5,
    width: 3,
    dModel: 72,
    dInner: 152,
    batch: 3,
  },
  { name: "dState 256", dState: 256, dModel: 16, dInner: 24 },
  { name: "many outputs", dModel: 16, dInner: 3080, batch: 2 },
];

type Values = Record<string, { shape: number[]; data: Float32Array; isProduct: boolean }>;

function makeValues({ batch, dModel, dInner, dState, dtRank, width, bias, convBias }: Sizes, half: boolean): Values {
  const random = createRandom(3);
  const made: Values = {};
  const add = (name: string, shape: number[], scale = 1, isProduct = false, shift = 0): void => {
    const data = Float32Array.from({ length: sizeOf(shape) }, () => shift + scale * random.normal());
    made[name] = { shape, data: isProduct && half ? roundToHalf(data) : data, isProduct };
  };
  add("hidden", [batch, 1, dModel], 2);
  add("norm", [dModel], 0.2, false, 1);
  add("inProj", [2 * dInner, dModel], dModel ** -0.5, true);
  if (bias) add("inProjBias", [2 * dInner], 0.3);
  add("conv", [dInner, width], 0.5);
  if (convBias) add("convBias", [dInner], 0.3);
  add("xProj", [dtRank + 2 * dState, dInner], dInner ** -0.5, true);
  add("dtProj", [dInner, dtRank], dtRank ** -0.5, true);
  add("dtBias", [dInner], 1, false, -2);
  add("A_log", [dInner, dState], 0.7);
  add("D", [dInner], 0.2, false, 1);
  add("outProj", [dModel, dInner], dInner ** -0.5, true);
  if (bias) add("outProjBias", [dModel], 0.3);
  add("convState", [batch, width - 1, dInner]);
  add("ssmState", [batch, dInner, dState]);
  return made;
}

function roundToHalf(data: Float32Array): Float32Array {
  const halves = new Uint16Array(data.length);
  float32ToFloat16(data, halves);
  const rounded = new Float32Array(data.length);
  float16ToFloat32(halves, rounded);
  return rounded;
}

function makeInputs(backend: Backend, values: Values, half: boolean): StepInputs {
  const entries = Object.entries(values).map(([name, { shape, data, isProduct }]) => [
    name,
    tensorFrom(backend, data, shape, half && isProduct && backend.name === "webgpu" ? "f16" : "f32"),
  ]);
  return Object.fromEntries(entries) as StepInputs;
}

/** Three tokens one after another, so that the states of each are the start of the next. */
async function run(backend: Backend, values: Values, half: boolean): Promise<Record<string, Float32Array>> {
  const tensors = scope(() => {
    const inputs = makeInputs(backend, values, half);
    let { hidden } = inputs;
    for (let token = 0; token < 3; token++) hidden = mambaStep({ ...inputs, hidden }, { eps: 1e-5 }).y;
    const logits = stepHead({ hidden, norm: inputs.norm, weight: inputs.inProj }, { eps: 1e-5 }).y;
    return { hidden, logits, conv: inputs.convState, ssm: inputs.ssmState };
  });
  const read: Record<string, Float32Array> = {};
  for (const [name, tensor] of Object.entries(tensors as Record<string, Tensor>)) {
    read[name] = await tensor.read();
    tensor.dispose();
  }
  return read;
}

describe.skipIf(!hasGpu)("mambaStep", () => {
  let backends: Record<string, WebGpuBackend>;
  beforeAll(async () => {
    backends = {
      webgpu: await gpuBackend(),
      "webgpu without subgroups": await gpuBackend({ without: ["subgroups"], maxBindingBytes: 1 << 16 }),
    };
  });

  for (const { name, ...sizes } of CASES)
    for (const half of [false, true])
      for (const device of ["webgpu", "webgpu without subgroups"])
        it(`${name}, ${half ? "f16" : "f32"}: ${device} = the ordinary ops`, async () => {
          if (device !== "webgpu" && (half || name === "many outputs" || name === "dState 256")) return;
          const values = makeValues({ ...USUAL, ...sizes }, half);
          const expected = await run(reference, values, half);
          const actual = await run(backends[device], values, half);
          for (const key in expected) expectClose(key, actual[key], expected[key], 2e-6);
        });

  it("gives a row the same bits whatever else is in the batch", async () => {
    const values = makeValues({ ...USUAL, batch: 4 }, false);
    const all = await run(backends.webgpu, values, false);
    for (const name of ["hidden", "convState", "ssmState"]) {
      const { shape, data } = values[name];
      values[name] = { ...values[name], shape: [1, ...shape.slice(1)], data: data.slice(0, data.length / 4) };
    }
    const one = await run(backends.webgpu, values, false);
    for (const key in one) expect(all[key].slice(0, one[key].length)).toEqual(one[key]);
  });

  it("says when it is not for an input", () => {
    scope(() => {
      const { webgpu } = backends;
      const hidden = (batch: number, length = 1, backend: Backend = webgpu): Tensor =>
        tensorFrom(backend, new Float32Array(batch * length * 8), [batch, length, 8]);
      const weight = (columns: number): Tensor => tensorFrom(webgpu, new Float32Array(8 * columns), [8, columns]);
      expect(isStepFused(hidden(8), [weight(8)])).toBe(true);
      expect(isStepFused(hidden(9), [weight(8)])).toBe(false);
      expect(isStepFused(hidden(1, 2), [weight(8)])).toBe(false);
      expect(isStepFused(hidden(1), [weight(12)])).toBe(false);
      expect(isStepFused(hidden(1, 1, reference), [weight(8)])).toBe(false);
      expect(() => stepHead({ hidden: hidden(1), norm: weight(8), weight: weight(16) }, { eps: 1 })).toThrow(
        /stepHead/,
      );
    });
  });
});
